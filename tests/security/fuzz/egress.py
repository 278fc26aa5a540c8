"""The egress proxy's own parsers and a real egress process, fed made-up requests: no crash, no hang, no growth."""

from __future__ import annotations

import contextlib
import random
import socket
import time

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sidecar.egress import head
from sidecar.egress.errors import Refused
from tests.security.fuzz.protocol import TimeIsUp
from tests.security.net import Out, answered, way_out

MIB = 1024 * 1024
_GROWTH = 64 * MIB
_EXAMPLES_OF_A_CONTAINER = 50
#: Seconds that one request may take: what is refused, is at once.
_PATIENCE = 20.0

hosts = st.sampled_from(
    [
        "open.example.com",
        "private.example.com",
        "127.0.0.1",
        "[::1]",
        "2130706433",
        "a.b.",
        "x" * 260,
        "",
        "%",
        "@",
        "é",
    ]
)
ports = st.sampled_from(["", ":443", ":80", ":0", ":65536", ":x", ":443:80", ":"])
methods = st.sampled_from(["GET", "CONNECT", "POST", "HEAD", "OPTIONS", "PRI", "get", "G T", "", "X" * 40])
versions = st.sampled_from([" HTTP/1.1", " HTTP/1.0", " HTTP/2.0", "", " HTTP/1.1 ", "\tHTTP/1.1", " http/1.1"])
names = st.sampled_from(
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "Expect",
        "TE",
        "X",
        "",
        " X",
        "X ",
        "Ho st",
    ]
)
values = st.one_of(
    hosts,
    st.sampled_from(
        [
            "5",
            "0",
            "-1",
            "5, 5",
            "chunked",
            "gzip, chunked",
            "close",
            "host",
            "websocket",
            "100-continue",
            "x" * 20_000,
        ]
    ),
    st.text(max_size=20),
)
ends = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n ", "\x00"])
bodies = st.sampled_from(
    [
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"ffffffffff\r\n",
        b"5\nhello",
        b"\x16\x03\x01",
        b"x" * 70_000,
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    place = draw(st.sampled_from(["http://", "HTTP://", "https://", "", "//", "/"])) + draw(hosts) + draw(ports)
    place += draw(st.sampled_from(["", "/", "/a?b#c", "?x", "\\@b.com/", "/\x7f", "/" + "y" * 17_000]))
    line = draw(methods) + " " + place + draw(versions)
    fields = draw(st.lists(st.tuples(names, st.sampled_from([": ", ":", " : ", ""]), values, ends), max_size=6))
    text = (
        line + draw(ends) + "".join("".join(field) for field in fields) + draw(st.sampled_from(["\r\n", "\n", ""]))
    )
    return text.encode("latin-1", "replace") + draw(bodies)


def mangled(data: bytes, source: random.Random) -> bytes:
    """`data`, spoiled at one place."""
    at = source.randrange(len(data) + 1)
    return source.choice(
        [
            data[:at],
            data[:at] + source.randbytes(4) + data[at:],
            data[:at] + b"\r\n" + data[at:],
            data[:at] + data[:at],
            data[:at] + b" " * 16_000 + data[at:],
            data.replace(b"\r\n", b"\n", 1),
            bytes(reversed(data)),
        ]
    )


def parsed(data: bytes) -> None:
    """The parser itself: it understands a head or refuses it, soon, and never does both by the same bytes."""
    began = time.process_time()
    with contextlib.suppress(Refused):
        size = head.complete(data)
        if size is not None:
            found = head.parse(data[:size])
            again = head.parse(data[:size])
            assert found == again
            assert not (found.chunked and found.length is not None)
            assert all(b"\r" not in value and b"\n" not in value for _, value in found.fields)
            assert "\r" not in found.path
            assert "\n" not in found.path
    assert time.process_time() - began < 0.5, data


class Fuzzer:
    def __init__(self, out: Out) -> None:
        self.out = out
        self.examples = 0
        self.container = ""
        self.first = 0

    def renew(self) -> None:
        if self.container:
            self.out.host.control.ask("forget", self.container)
        self.container = self.out.container("public", ports=[80])

    def example(self, data: bytes, seed: int | None, cuts: list[int]) -> None:
        if self.examples % _EXAMPLES_OF_A_CONTAINER == 0:
            self.renew()
            self.well()
        self.examples += 1
        if seed is not None:
            data = mangled(data, random.Random(seed))
        parsed(data)
        began = time.monotonic()
        with self.out.visit(self.container) as sock:
            last = 0
            with contextlib.suppress(OSError):
                for cut in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
                    sock.sendall(data[last:cut])
                    last = cut
                sock.shutdown(socket.SHUT_WR)
            answered(sock)
        self.out.clients.clear()
        assert time.monotonic() - began < _PATIENCE, data

    def well(self) -> None:
        """It serves another container; nothing has come inside; it has not failed, and has not grown."""
        with self.out.tunnel(self.out.container(), "open.example.com:443") as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
        self.out.host.control.ask("forget", f"c{self.out.host.count}")
        said = self.out.host.said()
        assert "Traceback" not in said, said
        assert self.out.inside.heard == []
        self.out.public.heard.clear()
        del self.out.host.coordinator.calls[:]
        memory = self.out.host.egress_memory()
        self.first = self.first or memory
        assert memory - self.first < _GROWTH, f"grown from {self.first} to {memory} bytes"


def fuzz(seconds: float) -> str:
    """Tries for so long; what was tried. Raises AssertionError with what broke, and the bytes that broke it."""
    with way_out() as out:
        fuzzer = Fuzzer(out)
        end = time.monotonic() + seconds

        @settings(
            max_examples=10_000_000,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests(), st.none() | st.integers(0, 2**32), st.lists(st.integers(0, 2**20), max_size=3))
        def examples(data: bytes, seed: int | None, cuts: list[int]) -> None:
            if time.monotonic() > end:
                raise TimeIsUp
            fuzzer.example(data, seed, cuts)

        with contextlib.suppress(TimeIsUp):
            examples()
        fuzzer.well()
        grown = (out.host.egress_memory() - fuzzer.first) // 1024
        return f"{fuzzer.examples} requests, {grown} KiB more"
