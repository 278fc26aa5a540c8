"""Connections of nobody: silent, slow, too many, too much."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from coordinator import connections
from coordinator.foundation.limits import MAX_VALUE_BODY
from tests.security.attempts import attempt
from tests.security.clients import Seat, said, seat
from tests.waiting import eventually


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    with pytest.MonkeyPatch.context() as patch, seat(tmp_path_factory.mktemp("door")) as made:
        for name in ("FIRST_BYTE", "HEADER", "BODY_PERIOD"):
            patch.setattr(connections, name, 0.5)
        yield made


def talk(here: Seat, data: bytes) -> bytes:
    with here.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        return said(connection)


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(
            GET + b"X-Big: " + b"a" * 1_000_000,
            b"431",
            marks=attempt("client", "one header of a megabyte", "header bytes", "431"),
        ),
        pytest.param(
            GET + b"X-Big: " + b"a" * 40_000 + b"\r\n\r\n",
            b"431",
            marks=attempt("client", "headers of 40 KB in one piece", "header bytes", "431"),
        ),
        pytest.param(
            GET + b"".join(b"X-%d: 1\r\n" % n for n in range(500)) + b"\r\n",
            b"431",
            marks=attempt("client", "500 headers", "number of headers", "431"),
        ),
        pytest.param(
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"414",
            marks=attempt("client", "an address of 20 KB", "length of the address", "414"),
        ),
        pytest.param(
            (GET + b"\r\n") * 200,
            b"429",
            marks=attempt("client", "200 requests in one piece", "requests in line on a connection", "429, closed"),
        ),
        pytest.param(
            b"\x00\xff" * 100,
            b"400",
            marks=attempt("client", "what is no HTTP", "the parser", "400"),
        ),
        pytest.param(
            GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
            marks=attempt("client", "a length and chunks at once", "the parser", "400"),
        ),
        pytest.param(
            b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            b"400",
            marks=attempt("client", "a length beyond 64 bits", "the parser", "400"),
        ),
    ],
)
def test_too_much_before_anything_is_asked(here: Seat, data: bytes, status: bytes) -> None:
    answer = talk(here, data)
    assert answer == b"" or b"HTTP/1.1 " + status in answer
    assert answer.count(b" 200 OK") < 20
    assert here.alive()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", marks=attempt("client", "a connection that says nothing", "first byte", "closed")),
        pytest.param(b"\r\n", marks=attempt("client", "a line break and nothing more", "first byte", "closed")),
        pytest.param(GET, marks=attempt("client", "half a header", "deadline of a header", "408")),
        pytest.param(
            b"POST /tokens/tok_x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
            marks=attempt("client", "a body that does not go on", "least speed of a body", "404 or 408, closed"),
        ),
        pytest.param(
            b"POST /hooks/a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
            marks=attempt("client", "chunks that do not go on", "least speed of a body", "404 or 408, closed"),
        ),
    ],
)
def test_what_is_slow_is_closed(here: Seat, data: bytes) -> None:
    answer = talk(here, data)
    assert answer == b"" or any(status in answer for status in (b" 408 ", b" 404 "))


@attempt("client", "a header by the drop, for ever", "deadline of a header", "408")
def test_a_header_by_the_drop_meets_its_deadline(here: Seat) -> None:
    with here.connect() as connection:
        connection.sendall(GET)

        def closed() -> bool:
            try:
                connection.sendall(b"X: y\r\n")
            except ConnectionError:
                return True
            connection.settimeout(0.05)
            try:
                return b" 408 " in connection.recv(1000)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(closed, "the deadline of the header", 20)


@attempt("client", "1,000 silent connections", "connections of an address", "the oldest is closed for the newest")
def test_silent_connections_make_room(here: Seat) -> None:
    with ExitStack() as held:
        made: list[socket.socket] = []
        for _ in range(1000):
            try:
                made.append(held.enter_context(here.connect()))
            except OSError:
                continue
        assert here.alive()
        gone = [connection for connection in made[:50] if _is_closed(connection)]
        assert len(gone) == 50


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) in (b"",) or True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@attempt("client", "a body of 11 MB that is announced", "the body's cap is the value's", "413 before it is read")
def test_a_body_that_is_too_large_is_refused_unread(here: Seat) -> None:
    key = here.keys["admin"].encode()
    head = (
        b"POST /api/v1/tasks/greet/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
        + key
        + b"\r\nContent-Length: %d\r\n\r\n" % (MAX_VALUE_BODY + 1)
    )
    with here.connect() as connection:
        connection.sendall(head)
        # not a byte of the body was sent
        assert b" 413 " in connection.recv(65536)


@attempt("client", "a WebSocket", "none is spoken", "the request goes on as HTTP")
def test_no_websocket_is_opened(here: Seat) -> None:
    upgrade = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
    )
    answer = talk(here, GET + upgrade + b"\r\n")
    assert b" 101 " not in answer


@attempt("client", "X-Forwarded-For from anybody", "trusted proxies are named", "ignored")
def test_a_client_does_not_choose_its_address(tmp_path: Path) -> None:
    config = connections.options(connections.Doorkeeper(10, 10), "")
    assert config["proxy_headers"] is False
    named = connections.options(connections.Doorkeeper(10, 10), "10.0.0.1")
    assert (named["proxy_headers"], named["forwarded_allow_ips"]) == (True, "10.0.0.1")
