"""What a container may try at its way out, and what comes of it: a real sidecar and its egress process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from samovar import wire

from tests.security.attempts import attempt
from tests.security.net import Out, answered, ended, way_out
from tests.waiting import eventually

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def out() -> Iterator[Out]:
    with way_out() as made:
        yield made
        assert made.host.process.poll() is None, made.host.said()
        assert "Traceback" not in made.host.said(), made.host.said()


def tries(tried: str, control: str, expected: str, *values: Any) -> Any:
    return pytest.param(*values, id=tried, marks=attempt("process 1", tried, control, expected))


def refused(tried: str, control: str, target: str, code: str) -> Any:
    """An attempt to connect to `target`."""
    return tries(tried, control, f"{400 if code == 'bad_target' else 403} {code}", target, code)


def well(out: Out) -> None:
    """Another container is served as ever."""
    sock = out.tunnel(out.container(), "open.example.com:443")
    with sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


# ---------------------------------------------------------------- where to


PUBLIC = "public addresses only, every one of an answer"
PORTS = "443 and what the operator adds"
POLICY = "the operator's policy"
LISTED = "exact hosts and ports"
PLAIN = "a plain name, or an address in its one form"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        refused("reach loopback by its address", PUBLIC, "127.0.0.1:443", "not_public"),
        refused("reach the LAN by its address", PUBLIC, "192.168.0.1:443", "not_public"),
        refused("reach the cloud's metadata", PUBLIC, "169.254.169.254:443", "not_public"),
        refused("reach loopback on IPv6", PUBLIC, "[::1]:443", "not_public"),
        refused("reach a private network on IPv6", PUBLIC, "[fd00::1]:443", "not_public"),
        refused("an IPv4 address mapped into IPv6", PLAIN, "[::ffff:127.0.0.1]:443", "bad_target"),
        refused("the same in hexadecimal", PUBLIC, "[::ffff:7f00:1]:443", "not_public"),
        refused("an IPv4 address in NAT64", PUBLIC, "[64:ff9b::7f00:1]:443", "not_public"),
        refused("an IPv4 address in 6to4", PUBLIC, "[2002:7f00:1::]:443", "not_public"),
        refused("an IPv4 address in Teredo", PUBLIC, "[2001:0:7f00:1::]:443", "not_public"),
        refused("a decimal address", PLAIN, "2130706433:443", "bad_target"),
        refused("an octal address", PLAIN, "0177.0.0.1:443", "bad_target"),
        refused("a hexadecimal address", PLAIN, "0x7f000001:443", "bad_target"),
        refused("a short address", PLAIN, "127.1:443", "bad_target"),
        refused("an address with a dot at the end", PLAIN, "127.0.0.1.:443", "bad_target"),
        refused("an address of a zone", PLAIN, "[fe80::1%25eth0]:443", "bad_target"),
        refused("two dots at the end", PLAIN, "private.example.com..:443", "bad_target"),
        refused("a name that is at a private address", PUBLIC, "private.example.com:443", "not_public"),
        refused("the same in odd case, with a dot at the end", PUBLIC, "PriVate.Example.COM.:443", "not_public"),
        refused("a name that is at loopback", PUBLIC, "loopback.example.com:443", "not_public"),
        refused("a name that is at the metadata address", PUBLIC, "metadata.example.com:443", "not_public"),
        refused("the same on IPv6", PUBLIC, "metadata6.example.com:443", "not_public"),
        refused("a name in CGNAT", PUBLIC, "cgnat.example.com:443", "not_public"),
        refused("a name at a multicast address", PUBLIC, "multicast.example.com:443", "not_public"),
        refused("a name at no address", PUBLIC, "unspecified.example.com:443", "not_public"),
        refused("a name at a mapped address", PUBLIC, "mapped.example.com:443", "not_public"),
        refused("a name in NAT64", PUBLIC, "nat64.example.com:443", "not_public"),
        refused("a name in 6to4", PUBLIC, "6to4.example.com:443", "not_public"),
        refused("a name in Teredo", PUBLIC, "teredo.example.com:443", "not_public"),
        refused("a link-local name", PUBLIC, "linklocal.example.com:443", "not_public"),
        refused("one private address among public ones", PUBLIC, "mixed.example.com:443", "not_public"),
        refused("CONNECT to SSH", PORTS, "open.example.com:22", "port_not_allowed"),
        refused("CONNECT to SMTP", PORTS, "open.example.com:25", "port_not_allowed"),
        refused("CONNECT to DNS", PORTS, "open.example.com:53", "port_not_allowed"),
    ],
)  # fmt: skip
def test_what_is_not_public_is_not_reached(out: Out, target: str, code: str) -> None:
    before = len(out.public.heard)
    answer = out.connect(out.container(), target)
    assert (answer.status, answer.code) == (400 if code == "bad_target" else 403, code)
    assert out.inside.heard == []
    assert len(out.public.heard) == before


def test_what_is_public_is_reached(out: Out) -> None:
    well(out)
    assert out.public.heard[-1].startswith(b"CONNECT open.example.com:443 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        refused("another host than the list's", LISTED, "open.example.com:443", "not_allowed"),
        refused("a name below the list's", LISTED, "x.listed.example.com:443", "not_allowed"),
        refused("a name that ends like the list's", LISTED, "xlisted.example.com:443", "not_allowed"),
        refused("the list's name before another", LISTED, "listed.example.com.evil.com:443", "not_allowed"),
        refused("another port of the list's host", LISTED, "listed.example.com:22", "port_not_allowed"),
        refused("the public address of the list's host", LISTED, "93.184.216.34:443", "not_allowed"),
        refused("a listed name that is at loopback, without a policy", POLICY,
                "loopback.example.com:443", "not_public"),
        refused("a metadata address that the policy names", "no policy opens metadata",
                "metadata.example.com:80", "not_public"),
    ],
)  # fmt: skip
def test_what_is_not_listed_is_not_reached(out: Out, target: str, code: str) -> None:
    hosts = ["listed.example.com:443", "loopback.example.com:443", "metadata.example.com:80"]
    container = out.container("list", hosts=hosts, private=["metadata.example.com:80"])
    answer = out.connect(container, target)
    assert (answer.status, answer.code) == (403, code)
    assert out.inside.heard == []


def test_what_the_policy_names_is_reached_by_a_list_alone(out: Out) -> None:
    port = out.inside.port
    try:
        named = {"private": [f"db.internal:{port}"]}
        with out.tunnel(
            out.container("list", hosts=[f"db.internal:{port}"], **named), f"db.internal:{port}"
        ) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
        answer = out.connect(out.container("public", ports=[port], **named), f"db.internal:{port}")
        assert answer.code == "not_public"
    finally:
        out.inside.heard.clear()


def asked(out: Out) -> int:
    """The threads of the egress process: its own, and one for each question to the system's resolver at once."""
    return len(os.listdir(f"/proc/{out.host.egress()}/task"))


@attempt("process 1", "carry data out in names", "only what the rules allow is resolved", "nothing is asked")
def test_names_are_no_way_out(out: Out) -> None:
    container = out.container("list", hosts=["listed.example.com:443"])
    before = asked(out)
    for n in range(100):
        assert out.connect(container, f"{n}-secret.evil.example.com:443").code == "not_allowed"
    assert asked(out) == before


# ---------------------------------------------------------------- what is said


STRICT = "one form of a request"
OPEN = "http://open.example.com/ HTTP/1.1\r\nHost: open.example.com\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        tries("Content-Length beside Transfer-Encoding", STRICT, "400 bad_request",
              f"POST {OPEN}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"),
        tries("two Content-Lengths", STRICT, "400 bad_request",
              f"POST {OPEN}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"),
        tries("an encoding that hides chunked", STRICT, "400 bad_request",
              f"POST {OPEN}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        tries("two Hosts", STRICT, "400 bad_request",
              f"GET {OPEN}Host: private.example.com\r\n\r\n"),
        tries("a Host that is not the URL's", STRICT, "400 bad_request",
              "GET http://open.example.com/ HTTP/1.1\r\nHost: private.example.com\r\n\r\n"),
        tries("a URL with a user", STRICT, "400 bad_request",
              "GET http://open.example.com@private.example.com/ HTTP/1.1\r\nHost: open.example.com\r\n\r\n"),
        tries("a URL with a backslash", STRICT, "400 bad_request",
              "GET http://open.example.com\\@private.example.com/ HTTP/1.1\r\nHost: open.example.com\r\n\r\n"),
        tries("a continued line", STRICT, "400 bad_request",
              f"GET {OPEN}X: 1\r\n 2\r\n\r\n"),
        tries("a bare LF", STRICT, "400 bad_request",
              f"GET {OPEN}X: 1\nHost: private.example.com\r\n\r\n"),
        tries("a blank before the colon", STRICT, "400 bad_request",
              "GET http://open.example.com/ HTTP/1.1\r\nHost : open.example.com\r\n\r\n"),
        tries("CONNECT with a body", STRICT, "400 bad_request",
              "CONNECT open.example.com:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde"),
        tries("CONNECT whose Host is another", STRICT, "400 bad_request",
              "CONNECT open.example.com:443 HTTP/1.1\r\nHost: private.example.com:443\r\n\r\n"),
        tries("the path of a server", STRICT, "400 bad_request",
              "GET / HTTP/1.1\r\nHost: private.example.com\r\n\r\n"),
        tries("https without TLS", STRICT, "400 bad_request",
              "GET https://open.example.com/ HTTP/1.1\r\nHost: open.example.com\r\n\r\n"),
        tries("HTTP/2 without TLS", STRICT, "400 bad_request", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_two_could_read_in_two_ways_reaches_nobody(out: Out, request_: str) -> None:
    before = len(out.public.heard)
    answer = out.ask(out.container(), request_)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert len(out.public.heard) == before


@attempt("process 1", "a second request behind the first", "one request for each connection", "not carried out")
def test_a_second_request_goes_nowhere(out: Out) -> None:
    second = "GET http://second.example.com/ HTTP/1.1\r\nHost: second.example.com\r\n\r\n"
    answer = out.ask(out.container(), f"GET {OPEN}\r\n{second}")
    assert answer.status == 200
    assert out.public.heard[-1].startswith(b"GET http://open.example.com/ HTTP/1.1\r\n")
    assert not any(b"second" in heard for heard in out.public.heard)


@attempt("process 1", "a password for the host's own proxy", "Proxy-Authorization is not passed on", "left out")
def test_what_is_for_the_proxy_is_not_passed_on(out: Out) -> None:
    out.ask(
        out.container(),
        f"GET {OPEN}Proxy-Authorization: Basic eDp5\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n",
    )
    assert b"Proxy-Authorization" not in out.public.heard[-1]
    assert b"X-Own" not in out.public.heard[-1]


@attempt("process 1", "a head of a megabyte", "cap of a head", "431 head_too_large")
def test_a_head_has_so_many_bytes(out: Out) -> None:
    answer = out.ask(out.container(), b"GET http://open.example.com/ HTTP/1.1\r\nX: " + b"x" * MIB)
    assert (answer.status, answer.code) == (431, "head_too_large")
    well(out)


# ---------------------------------------------------------------- when


@attempt("process 1", "reach something before a run is bound", "an attempt's own", "503 no_run")
def test_nothing_is_served_before_a_run(out: Out) -> None:
    container = out.container(assigned=False)
    assert out.connect(container, "open.example.com:443").code == "no_run"


@attempt("process 1", "go on with a connection after the run's end", "connections end with the run", "closed")
def test_connections_end_with_the_run(out: Out) -> None:
    container = out.container()
    process1 = out.host.greeted(container)
    kept = out.tunnel(container, "open.example.com:443")
    half = out.visit(container)
    half.sendall(b"CONNECT open.example.com:443 HTTP/1.1\r\n")
    assert process1.ask("finish", attempt=container, outcome="completed", result=1)["ok"]
    # when the end is answered they are closed already
    assert ended(kept, 0.5)
    assert ended(half, 0.5)
    before = len(out.public.heard)
    assert out.connect(container, "open.example.com:443").code == "no_run"
    assert len(out.public.heard) == before


@attempt("process 1", "have the next run pay for a connection of the last", "an attempt's own", "closed")
def test_the_next_run_does_not_get_what_the_last_has_left(out: Out) -> None:
    container = out.container()
    process1 = out.host.greeted(container)
    assert process1.ask("finish", attempt=container, outcome="completed", result=1)["ok"]
    waiting = out.visit(container)
    waiting.sendall(b"CONNECT open.example.com:443 HTTP/1.1\r\n")
    # it has been let in when a later one has been answered
    assert out.connect(container, "open.example.com:443").code == "no_run"
    out.host.assign(container, "next")
    before = len(out.public.heard)
    with contextlib.suppress(OSError):
        waiting.sendall(b"\r\n")
    assert answered(waiting).status in (0, 503)
    assert len(out.public.heard) == before
    with out.tunnel(container, "open.example.com:443"):
        pass


@attempt("process 1", "open another container's socket", "a directory for each container", "ENOENT")
def test_a_container_without_egress_has_no_way_out(out: Out) -> None:
    name = out.host.container()
    assert not (out.host.root / "c" / name / wire.EGRESS_NAME).exists()


# ---------------------------------------------------------------- what it hands over


def hand_over(out: Out, container: str, handed: socket.socket, places: int = 1) -> socket.socket:
    """As process 1 does for its places of loopback, before it has said anything."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(20)
    line.connect(str(out.host.root / "c" / container / wire.PLACES_NAME))
    ports = []
    for _ in range(places):
        with socket.create_server(("127.77.1.1", 0)) as free:
            ports.append(free.getsockname()[1])
    told = json.dumps({"places": [("127.77.1.1", port, None) for port in ports]}).encode()
    socket.send_fds(line, [told], [handed.fileno()])
    return line


@attempt(
    "process 1",
    "hand over a socket at which whoever accepts waits",
    "a thread of the container's",
    "nobody else waits",
)
def test_a_socket_that_is_handed_over_blocks_nobody(out: Out) -> None:
    container = out.container()
    with (
        socket.create_server(("127.77.1.2", 0)) as handed,
        socket.create_connection(handed.getsockname()),
        # one place more than there are connections to be accepted
        hand_over(out, container, handed, places=2) as line,
    ):
        well(out)
        line.setblocking(False)
        with pytest.raises(BlockingIOError):
            line.recv(16)


@attempt(
    "process 1", "hand over a socket that lingers for an hour", "options of its own", "nobody waits for a close"
)
def test_a_socket_that_is_handed_over_brings_no_options(out: Out) -> None:
    container = out.container()
    with socket.socket() as handed:
        handed.bind(("127.77.1.2", 0))
        handed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        handed.listen()
        with socket.create_connection(handed.getsockname()), hand_over(out, container, handed) as line:
            assert line.recv(16) == b"listening"
    well(out)


@attempt("process 1", "hand over something else than a socket that listens", "one, of TCP, that listens", "closed")
def test_anything_else_is_not_taken(out: Out) -> None:
    container = out.container()
    with socket.socket(type=socket.SOCK_DGRAM) as handed, hand_over(out, container, handed) as line:
        assert line.recv(16) == b""
    well(out)


@attempt("run", "send descriptors whose close lingers to the sidecar", "SO_PASSRIGHTS, Linux 6.16", "EPERM")
def test_descriptors_are_not_taken_where_none_are_wanted(out: Out) -> None:
    container = out.container()
    for name in (wire.SOCKET_NAME, wire.RUN_SOCKET_NAME, wire.EGRESS_NAME):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(out.host.root / "c" / container / name))
            try:
                sock.getsockopt(socket.SOL_SOCKET, 83)
            except OSError:
                pytest.skip("a kernel before 6.16 has no such option")
            with pytest.raises(PermissionError):
                socket.send_fds(sock, [b"x"], [sock.fileno()])


@attempt("run", "hand over places of its own", "before the first hello, once", "ENOENT, ECONNREFUSED")
def test_a_run_has_nothing_to_hand_over(out: Out) -> None:
    container = out.container()
    out.host.greeted(container)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:

        def refused() -> bool:
            try:
                line.connect(str(out.host.root / "c" / container / wire.PLACES_NAME))
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            return False

        eventually(refused, "the socket to be closed", 10)


# ---------------------------------------------------------------- how much


@attempt("process 1", "more connections than the run may have", "connections of a run", "429 too_many_connections")
def test_a_run_has_so_many_connections(out: Out) -> None:
    container = out.container(connections=3)
    held = [out.tunnel(container, "open.example.com:443") for _ in range(3)]
    answer = out.connect(container, "open.example.com:443")
    assert (answer.status, answer.code) == (429, "too_many_connections")
    held.pop().close()
    eventually(lambda: out.connect(container, "open.example.com:443").status == 200, "a place", 10)


@attempt("process 1", "more bytes than the run may pass on", "bytes of a run, both ways", "429 too_many_bytes")
def test_a_run_has_so_many_bytes(out: Out) -> None:
    container = out.container(bytes=200_000)
    sock = out.tunnel(container, "open.example.com:443")
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(b"x" * 50_000)
            if not sock.recv(50_000):
                break
    answer = out.connect(container, "open.example.com:443")
    assert (answer.status, answer.code) == (429, "too_many_bytes")


@attempt("process 1", "connections that say nothing, or half a head", "heads have a deadline", "closed after 10 s")
def test_half_open_connections_end(out: Out) -> None:
    container = out.container(connections=8)
    silent = [out.visit(container) for _ in range(24)]
    for sock in silent[::2]:
        sock.sendall(b"CONNECT open.exam")
    # none is let in beside them, and a neighbour does not hear of it
    well(out)
    assert all(ended(sock, 30) for sock in silent)
    with out.tunnel(container, "open.example.com:443"):
        pass


@attempt("process 1", "hundreds of readers that do not read", "bytes on their way have a limit", "memory holds")
def test_slow_readers_take_little_memory(out: Out) -> None:
    well(out)
    before = out.host.egress_memory()
    container = out.container(connections=300)
    slow = [out.tunnel(container, "open.example.com:443") for _ in range(250)]
    for sock in slow:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"x" * 65536)  # comes back, and nobody reads it
    well(out)
    assert out.host.egress_memory() - before < 48 * MIB
    for sock in slow:
        sock.close()


#: Says back what it hears, in a process of its own: what it costs is not this one's.
ECHO = """
import asyncio

async def serve(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

#: Eight threads that connect, to a host that is allowed and to one that is not; sixteen that send all they can.
FLOOD = """
import socket, sys, threading, time

path, target, end = sys.argv[1], sys.argv[2].encode(), time.monotonic() + float(sys.argv[3])
data = b"x" * 65536

def visit(target):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(2)
    sock.connect(path)
    sock.sendall(b"CONNECT %s HTTP/1.1\\r\\n\\r\\n" % target)
    return sock

def connects(target):
    while time.monotonic() < end:
        try:
            with visit(target) as sock:
                sock.recv(100)
        except OSError:
            pass

def pours():
    while time.monotonic() < end:
        try:
            with visit(target) as sock:
                while time.monotonic() < end:
                    sock.sendall(data)
                    sock.recv(65536)
        except OSError:
            pass

threads = [threading.Thread(target=connects, args=(to,)) for to in (target, b"10.0.0.1:443") * 4]
threads += [threading.Thread(target=pours) for _ in range(16)]
for thread in threads:
    thread.start()
print("flooding", flush=True)
for thread in threads:
    thread.join()
"""


def trips(sock: socket.socket, count: int = 600) -> float:
    """The 99th percentile of the seconds of round trips through a connection."""
    took = []
    for _ in range(count):
        since = time.perf_counter()
        sock.sendall(b"x" * 1000)
        left = 1000
        while left:
            left -= len(sock.recv(left))
        took.append(time.perf_counter() - since)
    return sorted(took)[int(count * 0.99) - 1]


@contextlib.contextmanager
def flooding(out: Out, target: str) -> Iterator[None]:
    """Two containers of `out` flood `target` for some seconds."""
    reach = {"hosts": [target], "private": [target], "connections": 100}
    paths = [out.host.root / "c" / out.container("list", **reach) / wire.EGRESS_NAME for _ in range(2)]
    floods = [
        subprocess.Popen([sys.executable, "-c", FLOOD, str(path), target, "4"], stdout=subprocess.PIPE)
        for path in paths
    ]
    try:
        for flood in floods:
            assert flood.stdout is not None
            assert flood.stdout.readline() == b"flooding\n"
        yield
    finally:
        for flood in floods:
            flood.wait(60)


@contextlib.contextmanager
def echoing() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield f"db.internal:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


@attempt("process 1", "two containers flood connections and bytes", "rounds over containers", "others' p99 holds")
def test_a_neighbours_connection_goes_on_beside_two_floods(out: Out) -> None:
    """What floods cost the processors, they cost everybody: so the same go past the neighbour's sidecar too."""
    with way_out() as other, echoing() as quiet, echoing() as loud:
        container = out.container("list", hosts=[quiet], private=[quiet])
        with out.tunnel(container, quiet) as sock:
            trips(sock)
            elsewhere, beside = [], []
            for _ in range(2):
                with flooding(other, loud):
                    elsewhere.append(trips(sock))
                with flooding(out, loud):
                    beside.append(trips(sock))
    print(
        "p99 in ms, floods elsewhere and beside:", [[round(1000 * t, 2) for t in ts] for ts in (elsewhere, beside)]
    )
    # seven processes and a suite share two processors, and one that works all the time waits for its turn: that is
    # some tens of milliseconds in a hundred, which are the scheduler's. That the turns are even is tried without a
    # clock in tests/unit/sidecar/egress
    assert min(beside) < 2 * max(elsewhere) + 0.05


@attempt("process 1", "a thousand connections at once", "backlog and numbers of a container", "others are served")
def test_a_crowd_at_the_door_costs_its_own_container(out: Out) -> None:
    container = out.container(connections=10)
    crowd = []
    for _ in range(400):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(str(out.host.root / "c" / container / wire.EGRESS_NAME))
        crowd.append(sock)
    well(out)
    assert len(os.listdir(f"/proc/{out.host.egress()}/fd")) < 400
    for sock in crowd:
        sock.close()


@attempt("process 1", "fill the run's log with refusals", "lines of egress have a number", "summed up")
def test_refusals_do_not_fill_the_log(out: Out) -> None:
    container = out.container("list", hosts=["listed.example.com:443"])
    process1 = out.host.greeted(container)
    for n in range(400):
        assert out.connect(container, f"h{n}.example.com:443").status == 403
    assert process1.ask("finish", attempt=container, outcome="completed", result=1)["ok"]
    lines = [line for call in out.host.coordinator.seen(container, "logs") for line in call["lines"]]
    assert 0 < len(lines) < 260
    assert {line["logger"] for line in lines} == {"samovar.egress"}
    (hosts,) = [call["hosts"] for call in out.host.coordinator.seen(container, "egress")][-1:]
    assert len(hosts) == 101


@attempt("process 1", "end the process that carries its bytes", "started again, told everything", "served again")
def test_the_egress_process_comes_back(out: Out) -> None:
    container = out.container()
    sock = out.tunnel(container, "open.example.com:443")
    first = out.host.egress()
    os.kill(first, 9)
    assert ended(sock)

    def again() -> bool:
        with contextlib.suppress(OSError, AssertionError), out.tunnel(container, "open.example.com:443"):
            return True
        return False

    eventually(again, "the new process", 20)
    assert out.host.egress() != first


def test_nothing_came_inside(out: Out) -> None:
    """The last of all: whatever was tried, the server on loopback has not heard of it."""
    assert out.inside.heard == []
