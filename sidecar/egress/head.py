"""The head of a request to the proxy, read strictly: what two read differently is how requests are smuggled."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sidecar.egress.errors import Refused
from sidecar.egress.names import Target, target

MOST = 16 * 1024
#: Lines of a head; it takes some time to look at each.
_MOST_LINES = 200

_END = b"\r\n\r\n"
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
#: What no value has: control characters, with them a CR or LF that other readers may take for an end of line.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_SCHEME = re.compile(r"[hH][tT][tT][pP]://")

#: Of one connection, and not to be passed on (RFC 9110, 7.6.1).
_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate proxy-authentication-info"
    b" te trailer transfer-encoding upgrade http2-settings".split()
)
#: Once at the most: of two, each reader takes the one it likes.
_ONCE = (b"host", b"content-length", b"transfer-encoding")


@dataclass(frozen=True)
class Head:
    """`method` as it came; `wanted` is where to; `path` begins with a slash, and is empty of a CONNECT.

    `fields` are those to be passed on, without Host and what belongs to a connection. `length` of a body whose
    length is known, `chunked` of one in chunks. `upgrade`: what other protocol is asked for.
    """

    method: str
    wanted: Target
    path: str
    minor: int
    fields: list[tuple[bytes, bytes]]
    host: bytes
    length: int | None
    chunked: bool
    upgrade: bytes | None

    @property
    def connect(self) -> bool:
        return self.method == "CONNECT"


def complete(data: bytes | bytearray) -> int | None:
    """Where the head in `data` ends; None where there is more to come. Raises Refused (`head_too_large`)."""
    end = data.find(_END, 0, MOST)
    if end >= 0:
        return end + len(_END)
    if len(data) >= MOST:
        raise Refused(431, "head_too_large", f"the head of a request has at most {MOST} bytes")
    return None


def parse(data: bytes) -> Head:
    """The head in `data`, which ends with its empty line. Raises Refused (`bad_request`, `bad_target`)."""
    lines = data[: -len(_END)].split(b"\r\n")
    if len(lines) > _MOST_LINES:
        raise _bad(f"it has more than {_MOST_LINES} lines")
    request = _REQUEST.fullmatch(lines[0])
    if request is None:
        raise _bad("its first line is none of HTTP/1.1")
    method, place, minor = request[1].decode(), request[2].decode(), int(request[3])
    fields = [_field(line) for line in lines[1:]]
    named: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        named.setdefault(name.lower(), []).append(value)
    for name in _ONCE:
        if len(named.get(name, [])) > 1:
            raise _bad(f"it has more than one {name.decode()}")
    host = named.get(b"host", [None])[0]
    length, chunked = _framing(named, minor)
    if method == "CONNECT":
        if length or chunked:
            raise _bad("CONNECT has no body")
        return _connect(place, host, minor)
    wanted, path, authority = _absolute(place)
    if host is None and minor == 1:
        raise _bad("it has no Host")
    if host is not None and _same(host, 80) != wanted:
        raise _bad("its Host is not that of its URL")
    options = {o.strip(b" \t").lower() for value in named.get(b"connection", []) for o in value.split(b",")}
    if options & {b"host", b"content-length", b"transfer-encoding"}:
        raise _bad("its Connection names what belongs to the request")
    kept = [
        (name, value)
        for name, value in fields
        if (lower := name.lower()) not in _HOP
        and lower not in options
        and lower not in (b"host", b"content-length")
    ]
    upgrades = named.get(b"upgrade", [])
    upgrade = upgrades[0] if len(upgrades) == 1 and b"upgrade" in options and not (length or chunked) else None
    return Head(method, wanted, path, minor, kept, authority.encode(), length, chunked, upgrade)


def to(wanted: Target) -> Head:
    """What a CONNECT to `wanted` would say."""
    return Head("CONNECT", wanted, "", 1, [], b"", None, False, None)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not (colon and _NAME.fullmatch(name)) or _FORBIDDEN.search(value):
        # a continued line and a blank before the colon too
        raise _bad("one of its lines is no field of a head")
    return name, value.strip(b" \t")


def _framing(named: dict[bytes, list[bytes]], minor: int) -> tuple[int | None, bool]:
    length, encoding = named.get(b"content-length"), named.get(b"transfer-encoding")
    if encoding is not None:
        if length is not None:
            raise _bad("it has both a Content-Length and a Transfer-Encoding")
        if minor == 0 or encoding[0].lower() != b"chunked":
            raise _bad("its Transfer-Encoding is not chunked")
        return None, True
    if length is None:
        return None, False
    if not _LENGTH.fullmatch(length[0]):
        raise _bad("its Content-Length is no number")
    return int(length[0]), False


def _connect(place: str, host: bytes | None, minor: int) -> Head:
    wanted = target(place)
    # clients write the port, leave it out, or (HTTP/1.0) have no Host at all
    if host is not None and _same(host, wanted.port) != wanted:
        raise _bad("its Host is not what it connects to")
    return Head("CONNECT", wanted, "", minor, [], place.encode(), None, False, None)


def _absolute(place: str) -> tuple[Target, str, str]:
    scheme = _SCHEME.match(place)
    if scheme is None:
        if place[:8].lower() == "https://":
            raise _bad("https goes by CONNECT")
        raise _bad("it names no host: a proxy wants http://host/path, or CONNECT host:port")
    authority, slash, path = place[scheme.end() :].partition("/")
    if not slash:
        authority, question, path = place[scheme.end() :].partition("?")
        path = f"?{path}" if question else ""
    if "@" in authority or "#" in place or "\\" in authority or "?" in authority:
        raise _bad("its URL has more in it than host, port, path and query")
    return target(authority, 80), f"/{path}", authority


def _same(host: bytes, port: int) -> Target | None:
    try:
        return target(host.decode("ascii"), port)
    except (UnicodeDecodeError, Refused):
        return None


def _bad(problem: str) -> Refused:
    return Refused(400, "bad_request", f"the request can't be understood: {problem}")
