"""Other users of the host: what they find closed, and what closes it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.wire.directories import NotPrivate, private
from sidecar import peers
from tests.security.attempts import attempt
from tests.security.hostile import sidecar

ROOT = Path(__file__).resolve().parents[2]
SOMEBODY = 1234

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

CONNECT = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
try:
    s.connect(sys.argv[2])
    s.sendall(sys.argv[3].encode())
    print(s.recv(1000).decode() or "closed")
except OSError as error:
    print(type(error).__name__)
"""
HELLO = '{"id":1,"type":"hello","protocol":1,"attempt":null,"ticket":null}\n'
CONTROL = '{"type":"hello","protocol":1}\n'


def as_user(user: int, path: Path, said: str) -> str:
    command = [sys.executable, "-c", CONNECT, str(user), str(path), said]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@as_root
@attempt("neighbour", "another user of the host connects as a container", "0700 above the sockets", "EACCES")
def test_another_user_does_not_reach_the_sockets() -> None:
    with sidecar() as host:
        name = host.container()
        assert (mode(host.root), mode(host.root / "c"), mode(host.root / "c" / name)) == (0o700, 0o700, 0o755)
        assert as_user(SOMEBODY, host.path(name), HELLO) == "PermissionError"
        assert as_user(SOMEBODY, host.root / "control.sock", CONTROL) == "PermissionError"


@as_root
@attempt("neighbour", "the same where the directories were opened", "peer's user id", "connection ends")
def test_where_the_directories_were_opened_the_peer_is_looked_at() -> None:
    with sidecar() as host:
        name, other = host.container(assigned=False), host.container(assigned=False)
        for directory in (host.root, host.root / "c"):
            directory.chmod(0o755)
        (host.root / "control.sock").chmod(0o666)
        assert as_user(SOMEBODY, host.path(name), HELLO) in ("closed", "ConnectionResetError", "BrokenPipeError")
        assert as_user(SOMEBODY, host.root / "control.sock", CONTROL) in (
            "closed", "ConnectionResetError", "BrokenPipeError",
        )  # fmt: skip
        # a task's own user, and one of a range that an engine maps it to
        assert "ticket" in as_user(65532, host.path(name), HELLO)
        assert "ticket" in as_user(231_072, host.path(other), HELLO)


def test_who_may_be_a_container() -> None:
    assert all(peers.may_be_a_container(user) for user in (0, 65532, 65534, 100_000, 2**32 - 2, os.geteuid()))
    assert not any(peers.may_be_a_container(user) for user in {1, 33, 1000, 10_001} - {os.geteuid()})
    assert not any(peers.may_control(user) for user in {1, 1000, 65532} - {os.geteuid()})


@attempt("neighbour", "find a directory that was made wider before", "tightened at the start", "0700")
def test_a_directory_that_is_there_is_tightened(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    private(there)
    private(tmp_path / "made" / "anew")
    assert (mode(there), mode(tmp_path / "made" / "anew")) == (0o700, 0o700)


def test_a_directory_of_everybody_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(NotPrivate, match="give a directory inside it"):
        private(shared)
    assert mode(shared) == 0o1777


PARTS = {
    "sidecar": ["--coordinator-url", "http://127.0.0.1:9", "--control-socket", "{}/control.sock"],
    "coordinator": [
        "--data",
        "{}",
        "--port",
        "0",
        "--admin-key",
        "sk_" + "a" * 40,
    ],
    "runner": [
        "--coordinator-url",
        "http://127.0.0.1:9",
        "--key",
        "k",
        "--sidecar-socket",
        "/x/s",
        "--state",
        "{}",
    ],
}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_no_part_begins_in_a_directory_of_everybody(part: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    command = [sys.executable, "-m", part, *(each.format(tmp_path) for each in PARTS[part])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "give a directory inside it" in done.stderr
    assert "Traceback" not in done.stderr


def test_samovar_up_tightens_its_own_data_directory_and_no_other(tmp_path: Path) -> None:
    from samovar.cli.data import data_directory
    from samovar.cli.errors import CliError

    tmp_path.chmod(0o755)
    data_directory(tmp_path)
    assert mode(tmp_path) == 0o700
    (tmp_path / "thesis.txt").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(CliError, match="chmod 700"):
        data_directory(tmp_path)
    assert mode(tmp_path) == 0o755
    (tmp_path / "credentials.json").write_text("{}")
    data_directory(tmp_path)
    assert mode(tmp_path) == 0o700


@pytest.mark.parametrize("part", ["coordinator", "runner", "sidecar"])
def test_every_part_makes_files_for_its_owner_alone(part: str) -> None:
    program = (
        f"import os, sys, {part}.__main__ as m\n"
        "m.CliApp.run = lambda *a, **k: sys.exit(f'umask {os.umask(0):03o}')\n"
        "m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "umask 077" in done.stderr
