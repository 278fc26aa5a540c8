"""What an error says of a connection that could not be made, by what the container reaches."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from typing import Any

import pytest
from samovar.environment import network
from samovar.environment.network import Network
from samovar.values import reaching
from samovar.values.hints import with_hint

PUBLIC = Network(json.dumps({"proxy": "127.0.0.1:3128", "relays": [], "direct": []}))
LISTED = Network(json.dumps({"proxy": None, "relays": [["127.0.0.2", 5432, "db.internal"]], "direct": []}))
NONE = Network("")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has it: names are not resolved, and what is not loopback is not reached."""

    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        if host == "203.0.113.7":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "socket", Socket)
    monkeypatch.setattr(reaching, "_has_interfaces", lambda: False)


def told(monkeypatch: pytest.MonkeyPatch, reached: Network, host: str, importing: bool = False) -> str:
    monkeypatch.setattr(network, "current", reached)
    with pytest.raises(OSError, match=r"resolution|unreachable") as error:
        socket.create_connection((host, 8443))
    return with_hint(error.value, importing)


@pytest.mark.parametrize("host", ["other.example", "203.0.113.7"])
def test_the_host_and_the_line_to_write_are_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    said = told(monkeypatch, PUBLIC, host)
    assert f"{host}:8443 was not connected to by the proxy" in said
    assert "ClientSession(trust_env=True)" in said
    assert f'@task(network=["{host}:8443"])' in said
    said = told(monkeypatch, LISTED, host)
    assert "none of the hosts that this task reaches, db.internal:5432" in said
    assert f'@task(network=[..., "{host}:8443"])' in said
    assert f'@task(network=["{host}:8443"])' in told(monkeypatch, NONE, host)


def test_a_reset_may_be_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    monkeypatch.setattr(network, "current", LISTED)
    assert "the run's log says why" in with_hint(error)
    monkeypatch.setattr(network, "current", PUBLIC)
    assert "log" not in with_hint(error)


def test_a_refusal_of_the_proxy_is_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("Tunnel connection failed: 403 Forbidden")
    monkeypatch.setattr(network, "current", PUBLIC)
    assert "the run's log says why" in with_hint(error)
    monkeypatch.setattr(network, "current", NONE)
    assert "log" not in with_hint(error)


def test_nothing_is_reached_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "connect inside of the task" in told(monkeypatch, PUBLIC, "other.example", importing=True)


def test_an_error_that_led_to_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "current", NONE)

    def connect() -> None:
        try:
            socket.create_connection(("other.example", 8443))
        except OSError as error:
            raise RuntimeError("the library's own") from error

    with pytest.raises(RuntimeError) as raised:
        connect()
    assert '"other.example:8443"' in with_hint(raised.value)


def test_asyncio_names_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "current", NONE)
    with pytest.raises(OSError, match="resolution") as raised:
        asyncio.run(_open())
    assert '"other.example:8443"' in with_hint(raised.value)


async def _open() -> None:
    await asyncio.open_connection("other.example", 8443)


def test_a_library_without_pythons_errors_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "current", NONE)
    text = 'could not translate host name "db.internal" to address: Temporary failure in name resolution'
    assert "db.internal is reached with" in with_hint(RuntimeError(text))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),  # a server of the task's own, perhaps
        FileNotFoundError(errno.ENOENT, "No such file", "/x"),
        ValueError("host: is missing"),
        TimeoutError("timed out"),
    ],
)
def test_what_is_about_something_else_has_no_hint(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    for reached in (PUBLIC, LISTED, NONE):
        monkeypatch.setattr(network, "current", reached)
        assert reaching.hint(error, importing=False) is None


def test_where_there_is_a_network_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "_has_interfaces", lambda: True)
    assert "network=" not in told(monkeypatch, NONE, "other.example")


def test_an_odd_error_costs_the_hint_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Exception):
        @property
        def host(self) -> str:
            raise ZeroDivisionError

        def __str__(self) -> str:
            return "name resolution failed"

    assert with_hint(Odd()).endswith("name resolution failed")
