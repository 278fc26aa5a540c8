"""Doors as a build's thread has them: a real sidecar, the relay of a builder, a server on loopback."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from samovar import wire

from images.errors import BuildError, InstallError
from images.host import Reach
from images.way import HOST_REFUSED, Out, relay_files, way_out
from runner.doors import Doors
from runner.sidecar_client import SidecarClient
from tests.doors import host

#: What a step of a build does: it knows a proxy and nothing else.
CLIENT = """
import sys, urllib.error, urllib.request
proxy = "http://" + sys.argv[1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
for url in sys.argv[2:]:
    try:
        print(opener.open(url, timeout=20).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.headers["X-Samovar-Refused"])
    except OSError as error:
        print(error)
"""


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(10)


def step(directory: Path, lent: Path, *urls: str) -> list[str]:
    """What a client says behind the relay, as a builder starts it from the files that it is handed."""
    for name, data in relay_files().items():
        (lent / name).parent.mkdir(parents=True, exist_ok=True)
        (lent / name).write_bytes(data)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    program = lent / "relay/samovar/harness/relayed.py"
    command = [sys.executable, "-I", "-S", str(program), str(directory / wire.EGRESS_NAME), place]
    command += [sys.executable, "-I", "-c", CLIENT, place, *urls]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def test_a_step_downloads_through_the_relay_and_what_it_reached_is_told(index: int, tmp_path: Path) -> None:
    log: list[str] = []
    added = f"localhost:{index}"
    way = host().way(log.append, [added])
    url = f"http://127.0.0.1:{index}"
    with way_out(way, Reach((f"127.0.0.1:{index}",), (f"127.0.0.1:{index}",))) as out:
        assert isinstance(out, Out)
        assert out.directory is not None
        said = step(
            out.directory, tmp_path, url, f"http://{added}", "http://other.example/simple", "https://other.example"
        )
    assert said[:3] == ["hello", "hello", "403 not_allowed"]
    assert "403" in said[3]
    assert not out.directory.exists()
    assert log[0].startswith(f"127.0.0.1:{index}: 1 connection, ")
    assert any(line.startswith(f"{added}: 1 connection, ") for line in log)
    assert any("refused 1 times" in line and 'adds "other.example:80" to hosts in [builds]' in line for line in log)


def test_what_a_base_names_is_not_reached_on_this_host(index: int, tmp_path: Path) -> None:
    log: list[str] = []
    with way_out(host().way(log.append), Reach((f"127.0.0.1:{index}",))) as out:
        assert out is not None
        assert out.directory is not None
        assert step(out.directory, tmp_path, f"http://127.0.0.1:{index}") == ["403 not_public"]
    assert [line.partition(": ")[2][:16] for line in log] == ["refused 1 times:"]


def test_a_failure_says_what_was_refused(index: int, tmp_path: Path) -> None:
    def refused() -> None:
        with way_out(host().way(lambda line: None), Reach(())) as out:
            assert out is not None
            assert out.directory is not None
            step(out.directory, tmp_path, f"http://127.0.0.1:{index}")
            raise InstallError("pip says no")

    with pytest.raises(InstallError) as caught:
        refused()
    assert caught.value.problem.code == HOST_REFUSED
    assert f'adds "127.0.0.1:{index}" to hosts in [builds] of policy.toml' in caught.value.problem.message
    assert caught.value.problem.message.endswith("pip says no")


def test_an_index_that_does_not_answer_is_not_refused(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{nobody.getsockname()[1]}"

        def failed(code: str | None) -> InstallError:
            with (
                pytest.raises(InstallError) as caught,
                way_out(host().way(lambda line: None, [place]), Reach(())) as out,
            ):
                raise went(out, code)
            return caught.value

        def went(out: Out | None, code: str | None) -> InstallError:
            assert out is not None
            assert out.directory is not None
            assert step(out.directory, tmp_path, f"http://{place}") == ["502 cannot_connect"]
            return InstallError("pip says no", code=code)

        assert failed("requirement_not_found").problem.code == "index_unreachable"
        assert f"can't connect to {place}" in failed(None).problem.message
        # which an index has nothing to do with
        assert failed("build_timeout").problem.message == "pip says no"


def test_a_failure_of_a_step_that_was_refused_nothing_is_what_it_was() -> None:
    error = InstallError("pip says no", code="requirement_not_found")
    with pytest.raises(InstallError) as caught, way_out(host().way(lambda line: None), Reach(())):
        raise error
    assert caught.value is error


def test_without_a_sidecar_a_build_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.doors._PATIENCE", 0.0)
    made = host()
    way = Doors(SidecarClient(tmp_path / "none.sock"), tmp_path, [], lambda line: None, made.loop)
    with pytest.raises(BuildError) as caught:
        way(Reach(()))
    assert caught.value.problem.code == "sidecar_away"
