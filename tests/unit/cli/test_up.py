"""What `samovar up` prepares: keys, directories, environments, and what it refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from samovar.cli.data import data_directory, locked
from samovar.cli.errors import CliError
from samovar.cli.install import Install, parts, prepare, release
from samovar.cli.up import enrolled

from tests.waiting import eventually

_installs: list[Install] = []


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    while _installs:
        release(_installs.pop())


def made(data: Path, **options: object) -> Install:
    data.mkdir(exist_ok=True)
    wanted = {"host": "127.0.0.1", "port": 0, "database": None, "policy": None, **options}
    _installs.append(prepare(data, **wanted))  # type: ignore[arg-type]
    return _installs[-1]


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = made(tmp_path)
    second = made(tmp_path)
    assert first.admin_key == second.admin_key
    stored = json.loads((tmp_path / "credentials.json").read_text())
    assert stored == {"url": second.url, "api_key": second.admin_key}
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_the_key_that_an_earlier_version_shared_is_gone(tmp_path: Path) -> None:
    (tmp_path / "runner.key").write_text("rk_shared\n")
    made(tmp_path)
    assert not (tmp_path / "runner.key").exists()


class Hosts:
    """The API as far as `up` asks it about this host."""

    def __init__(self, **keys: str | None) -> None:
        self._hosts = [{"runner": name, "key": key} for name, key in keys.items()]
        self.made = 0

    def items(self, path: str) -> list[dict[str, str | None]]:
        assert path == "/hosts"
        return self._hosts

    def post(self, path: str, body: dict[str, object]) -> dict[str, str]:
        assert path == "/hosts/token"
        self.made += 1
        return {"token": f"smvh_{self.made}"}


@pytest.mark.parametrize(
    ("left", "keys", "gets"),
    [
        ([], {}, True),
        (["runner-id", "runner.key"], {"mine": "host:mine"}, False),
        # another database than the one it was enrolled in, one of an earlier version, and a key that was lost
        (["runner-id", "runner.key"], {"other": "host:other"}, True),
        (["runner-id", "runner.key"], {"mine": None}, True),
        (["runner-id"], {"mine": "host:mine"}, True),
    ],
)
def test_a_token_is_made_for_a_host_that_is_not_known(
    tmp_path: Path, left: list[str], keys: dict[str, str | None], gets: bool
) -> None:
    install = made(tmp_path)
    runner = parts(install)[2]
    state = Path(runner.environment["SAMOVAR_RUNNER_STATE"])
    state.mkdir()
    for name in left:
        (state / name).write_text("mine")
    api = Hosts(**keys)
    given = enrolled(runner, api).environment  # type: ignore[arg-type]
    assert given.get("SAMOVAR_RUNNER_TOKEN") == ("smvh_1" if gets else None)
    assert api.made == gets
    # what an operator gives goes before it
    own = replace(runner, environment={**runner.environment, "SAMOVAR_RUNNER_TOKEN": "smvh_own"})
    assert enrolled(own, api) is own  # type: ignore[arg-type]


def test_each_part_knows_only_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "PIP_INDEX_URL", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SAMOVAR_COORDINATOR_LOG_LEVEL", "debug")
    monkeypatch.setenv("SAMOVAR_RUNNER_SLOTS", "3")
    for name in ("HTTPS_PROXY", "no_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "proxy.example")
    install = made(tmp_path, database="postgresql://u:p@db/x")
    coordinator, sidecar, runner = (dict(part.environment) for part in parts(install))
    assert coordinator["SAMOVAR_COORDINATOR_DATABASE_URL"] == "postgresql://u:p@db/x"
    assert coordinator["SAMOVAR_COORDINATOR_LOG_LEVEL"] == "debug"
    assert runner["SAMOVAR_RUNNER_SLOTS"] == "3"
    assert runner["DOCKER_HOST"] == "x"
    for environment in (coordinator, sidecar):
        assert not any(name.startswith(("DOCKER", "PIP")) for name in environment)
    # builds and tasks reach the network as the host does
    for name in ("HTTPS_PROXY", "no_proxy", "ALL_PROXY"):
        assert sidecar[name] == runner[name] == "proxy.example"
        assert name not in coordinator
    for environment in (sidecar, runner):
        assert "postgresql://u:p@db/x" not in environment.values()
        assert install.admin_key not in environment.values()
    for environment in (coordinator, sidecar, runner):
        assert "AWS_SECRET_ACCESS_KEY" not in environment
        assert "PYTHONPATH" not in environment


def test_this_hosts_runner_and_sidecar_have_a_listener_of_their_own(tmp_path: Path) -> None:
    install = made(tmp_path, fleet_listen="[::]:7421, 10.0.0.1:7422")
    coordinator, sidecar, runner = (part.environment for part in parts(install))
    own = coordinator["SAMOVAR_COORDINATOR_FLEET_LISTEN"].split(",")[0]
    assert own == f"127.0.0.1:{install.fleet_port}"
    assert install.fleet_port != install.port
    assert coordinator["SAMOVAR_COORDINATOR_FLEET_LISTEN"] == f"{own},[::]:7421, 10.0.0.1:7422"
    assert sidecar["SAMOVAR_SIDECAR_COORDINATOR_URL"] == runner["SAMOVAR_RUNNER_COORDINATOR_URL"] == f"http://{own}"
    assert install.url == f"http://127.0.0.1:{install.port}"


def test_the_own_port_is_none_that_is_given_to_others(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    after = [made(tmp_path, port=port, fleet_listen=given).fleet_port for given in ("", f"0.0.0.0:{port + 1}")]
    assert port + 1 not in after[1:]
    assert port not in after


def test_a_policy_in_the_data_directory_is_taken(tmp_path: Path) -> None:
    assert made(tmp_path).policy is None
    (tmp_path / "policy.toml").write_text("")
    assert made(tmp_path).policy == tmp_path / "policy.toml"
    with pytest.raises(CliError, match=r"gone\.toml"):
        made(tmp_path, policy=tmp_path / "gone.toml")


def test_sockets_are_in_the_data_directory_where_their_paths_fit(tmp_path: Path) -> None:
    short = Path("/tmp") / f"samovar-test-{os.getpid()}"
    try:
        assert made(short).sockets == short / "run"
    finally:
        for path in sorted(short.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        short.rmdir()
    deep = tmp_path / ("x" * 100)
    first, second = made(deep), made(deep)
    assert len(str(first.sockets)) < 48
    assert first.sockets == second.sockets
    assert first.sockets.stat().st_mode & 0o777 == 0o700
    release(first)
    assert not first.sockets.exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CliError, match=f"127.0.0.1:{port}") as caught:
            made(tmp_path, port=port)
        assert "--port" in caught.value.message


def test_two_on_one_directory_are_refused_and_a_killed_one_is_waited_for(tmp_path: Path) -> None:
    with locked(tmp_path, print), pytest.raises(CliError, match=f"process {os.getpid()}"), locked(tmp_path, print):
        pass
    # a supervisor that is killed while a child still holds what it inherited
    program = (
        "import os, signal, subprocess, sys; from pathlib import Path; from samovar.cli.data import locked\n"
        f"with locked(Path({str(tmp_path)!r}), print) as lock:\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], pass_fds=(lock,))\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        killed.wait(30)
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from samovar.cli.data import locked\n"
            f"with locked(Path({str(tmp_path)!r}), print): print('mine', flush=True)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: f"{waiting.pid}" in _holders(tmp_path / "lock"), "the second to open the lock")
        assert waiting.poll() is None
    finally:
        os.kill(child, 9)
    assert waiting.communicate(timeout=30)[0].splitlines()[-1] == "mine"


def _holders(path: Path) -> set[str]:
    holders = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(path):
                holders.add(link.parts[2])
        except OSError:
            continue
    return holders


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="--data"):
        data_directory(tmp_path / "file" / "below")


def test_no_docker_ends_with_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "samovar.cli.main", "up", "--data", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"},
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "docker_unavailable"


def test_a_free_port_is_none_that_a_connection_is_given(tmp_path: Path) -> None:
    """From when it is chosen until somebody listens there, any connection of this machine would get it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = [made(tmp_path, port=0) for _ in range(20)]
    assert all(0 < one.port < first and one.fleet_port <= first for one in chosen)
    assert len({one.port for one in chosen}) > 10
