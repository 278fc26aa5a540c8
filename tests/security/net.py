"""A way out for attempts: a sidecar whose public hosts are led to a server of the test, and clients for it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from samovar import wire

from tests.security.hostile import Sidecar, sidecar

#: Addresses that names have; to the public ones nothing goes but by the proxy below, which leads it to loopback.
HOSTS = """
93.184.216.34 open.example.com listed.example.com below.listed.example.com
10.0.0.1 private.example.com
127.0.0.1 loopback.example.com db.internal
169.254.169.254 metadata.example.com
100.64.0.1 cgnat.example.com
224.0.0.1 multicast.example.com
0.0.0.0 unspecified.example.com
::ffff:127.0.0.1 mapped.example.com
64:ff9b::a00:1 nat64.example.com
2002:7f00:1:: 6to4.example.com
2001:0:7f00:1:: teredo.example.com
fd00:ec2::254 metadata6.example.com
fe80::1 linklocal.example.com
93.184.216.34 mixed.example.com
192.168.1.1 mixed.example.com
"""


class Server:
    """Says back what it hears, and remembers that somebody came. Whatever proxy it is asked to be, it is."""

    def __init__(self, *, proxy: bool = False) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port: int = self.listener.getsockname()[1]
        self.proxy = proxy
        self.heard: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._speak, args=(sock,), daemon=True).start()

    def _speak(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.proxy:
                head = b""
                while b"\r\n\r\n" not in head:
                    if not (more := sock.recv(4096)):
                        return
                    head += more
                self.heard.append(head)
                sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                if not head.startswith(b"CONNECT"):
                    return
            else:
                self.heard.append(b"")
            while data := sock.recv(65536):
                sock.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


@dataclass
class Answer:
    status: int
    code: str | None
    text: str


@dataclass
class Out:
    """A host, and the servers that its containers can or can't reach."""

    host: Sidecar
    #: Public hosts are led here.
    public: Server
    #: Listens on loopback, where nothing of a container may come unless the policy says so.
    inside: Server
    clients: list[socket.socket] = field(default_factory=list)

    def container(self, mode: str = "public", *, assigned: bool = True, **more: object) -> str:
        return self.host.container(assigned=assigned, egress={"mode": mode, **more})

    def visit(self, container: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(str(self.host.root / "c" / container / wire.EGRESS_NAME))
        self.clients.append(sock)
        return sock

    def ask(self, container: str, request: str | bytes) -> Answer:
        """The answer to a request that is refused, or its head."""
        sock = self.visit(container)
        with sock:
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(request.encode() if isinstance(request, str) else request)
            return answered(sock)

    def connect(self, container: str, target: str) -> Answer:
        return self.ask(container, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")

    def tunnel(self, container: str, target: str) -> socket.socket:
        sock = self.visit(container)
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = sock.recv(1)
            assert part, head
            head += part
        assert head.startswith(b"HTTP/1.1 200"), head
        return sock


def answered(sock: socket.socket) -> Answer:
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65536):
            data += more
            if data.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" in data:
                break
    head, _, body = data.decode("latin-1").partition("\r\n\r\n")
    lines = head.split("\r\n")
    code = next((line.split(": ", 1)[1] for line in lines if line.lower().startswith("x-samovar-refused")), None)
    return Answer(int(lines[0].split()[1]) if data else 0, code, body)


def ended(sock: socket.socket, seconds: float = 30) -> bool:
    """Whether the other end ends the connection; what comes before goes unheard."""
    sock.settimeout(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            try:
                if not sock.recv(65536):
                    return True
            except ConnectionError:
                return True
    return False


@contextlib.contextmanager
def way_out() -> Iterator[Out]:
    public, inside = Server(proxy=True), Server()
    proxy = f"http://127.0.0.1:{public.port}"
    try:
        with sidecar(HOSTS, {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": "", "no_proxy": ""}) as host:
            yield Out(host, public, inside)
    finally:
        public.close()
        inside.close()
