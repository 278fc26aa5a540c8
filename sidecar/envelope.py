"""What a line says of itself: its envelope is read here, and the value in it passes as the bytes that came.

A value costs the sidecar its own size and no more, whatever is in it: numbers, depth and text are for the
coordinator to judge, which stores it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from samovar import wire

from sidecar.errors import Refused

#: Lines up to this many bytes are looked through whole; of longer ones the beginning is, up to the value.
WHOLE = 512 * 1024
#: Beside a value, in its line.
_BESIDE = 512 * 1024
_SMALL = 16 * 1024
_VALUED = wire.MAX_VALUE + _BESIDE
#: Bytes of a line, by its type.
CAPS = {
    wire.HELLO: _SMALL,
    wire.READY: WHOLE,
    wire.STARTED: _SMALL,
    wire.CHECKPOINT_GET: _SMALL,
    wire.CHECKPOINT_PUT: _VALUED,
    wire.LOG: 4 * 1024 * 1024,
    wire.REPORT: WHOLE,
    wire.EXTEND: _SMALL,
    wire.WAIT: _VALUED,
    wire.WAIT_RESULT: _SMALL,
    wire.FINISH: _VALUED,
    wire.RELEASED: _SMALL,
}
#: The members that are never looked into here; one of them comes last in a line longer than WHOLE.
_OPAQUE = {
    wire.CHECKPOINT_PUT: ("value",),
    wire.LOG: ("lines",),
    wire.WAIT: ("spec",),
    wire.FINISH: ("result", "waits"),
}
_LARGEST_ID = 2**53

_NONE = msgspec.Raw(b"")


class _Members(msgspec.Struct):
    """Every member that a request may have; others are passed over without being made."""

    id: msgspec.Raw = _NONE
    type: msgspec.Raw = _NONE
    attempt: msgspec.Raw = _NONE
    protocol: msgspec.Raw = _NONE
    ticket: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE
    memory: msgspec.Raw = _NONE
    key: msgspec.Raw = _NONE
    took_ms: msgspec.Raw = _NONE
    value: msgspec.Raw = _NONE
    kind: msgspec.Raw = _NONE
    name: msgspec.Raw = _NONE
    spec: msgspec.Raw = _NONE
    index: msgspec.Raw = _NONE
    lines: msgspec.Raw = _NONE
    progress: msgspec.Raw = _NONE
    metadata: msgspec.Raw = _NONE
    curve: msgspec.Raw = _NONE
    seconds: msgspec.Raw = _NONE
    outcome: msgspec.Raw = _NONE
    result: msgspec.Raw = _NONE
    retry: msgspec.Raw = _NONE
    waits: msgspec.Raw = _NONE
    usage: msgspec.Raw = _NONE
    container: msgspec.Raw = _NONE


_NAMES = _Members.__struct_fields__
_decoder = msgspec.json.Decoder(_Members)
_anything = msgspec.json.Decoder()
_python = json.JSONDecoder()
_MEMBER = re.compile(r'\s*"([a-z_]{1,32})"\s*:\s*')
_COMMA = re.compile(r"\s*,")


class Request:
    """One line of a container. What it says is decoded member by member, by who needs it."""

    def __init__(self, members: dict[str, list[bytes]], size: int) -> None:
        self._members = members
        #: Bytes of the line.
        self.size = size
        kind = self.get("type", most=64) if "type" in members else None
        self.kind: str = kind if isinstance(kind, str) else ""
        number = self.get("id", most=32) if "id" in members else None
        #: What the reply names; None where the line has no number that could be one.
        self.id: int | None = number if type(number) is int and abs(number) <= _LARGEST_ID else None
        #: Why it cannot be carried out, where the line itself is wrong; then not all of its members are here.
        self.problem: Refused | None = None
        if size > CAPS.get(self.kind, WHOLE):
            self.too_large()
        #: Whether it has the right to be large, which is given back when it is answered.
        self.large = False

    def too_large(self) -> None:
        """Says that the line is longer than its type may be."""
        most = CAPS.get(self.kind, WHOLE)
        self.problem = Refused("too_large", f"a line of {self.kind} has at most {most} bytes", 413)

    def get(self, name: str, default: Any = None, most: int = _SMALL) -> Any:
        """The member `name`, decoded. Raises Refused where it is no JSON, or of more than `most` bytes."""
        parts = self._members.get(name)
        if parts is None:
            return default
        if sum(map(len, parts)) > most:
            raise Refused("bad_request", f"{name}: of more than {most} bytes")
        try:
            return _anything.decode(b"".join(parts))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refused("bad_request", f"{name}: not JSON: {str(error)[:200]}") from None

    def raw(self, name: str) -> list[bytes]:
        """The member as it came, in parts: `null` where it is not there."""
        return self._members.get(name) or [b"null"]

    def says_null(self, name: str) -> bool:
        """Whether the member is there, and null."""
        return b"".join(self._members.get(name, [])).strip() == b"null"

    def put(self, name: str, value: bytes) -> None:
        """Another value of a member, as JSON."""
        self._members[name] = [value]

    def drop(self, name: str) -> None:
        """Lets go of a member: nobody here needs it any more."""
        self._members.pop(name, None)


def read(line: bytes) -> Request:
    """The request in a line of at most WHOLE bytes. Raises ProtocolError where it is none."""
    try:
        found = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        message = f"not a line of JSON: {str(error)[:200]}"
        try:
            # where it says who it is, it is answered: it may be the end of a run
            request, _, _ = begin(line[:_SMALL])
        except wire.ProtocolError:
            raise wire.ProtocolError(message) from None
        request.size, request.problem = len(line), Refused("bad_request", message)
        return request
    members = {name: [bytes(raw)] for name in _NAMES if (raw := getattr(found, name)) is not _NONE}
    return _made(members, len(line))


def begin(head: bytes) -> tuple[Request, str | None, int]:
    """What the first WHOLE bytes of a longer line say: a request, the member that begins in them and goes on after
    them, and where its value begins.

    None as the member: the line is of a type that has no such, or does not have it last. Raises ProtocolError where
    the bytes don't even say their type.
    """
    text = head.decode("utf-8", "surrogateescape")
    members: dict[str, list[bytes]] = {}
    opaque: tuple[str, ...] = ()
    at = len(text) - len(text.lstrip())
    if not text.startswith("{", at):
        raise wire.ProtocolError("a line is a JSON object")
    at += 1
    while (member := _MEMBER.match(text, at)) is not None:
        name = member[1]
        try:
            value, end = _python.raw_decode(text, member.end())
            comma = _COMMA.match(text, end)
        except (ValueError, RecursionError):
            value, end, comma = None, member.end(), None
        if comma is None and name in opaque:
            # it goes on after the head, or is the last that is in it
            offset = len(text[: member.end()].encode("utf-8", "surrogateescape"))
            return _made(members, 0), name, offset
        if end == member.end():
            break
        if name in _NAMES:
            members[name] = [text[member.end() : end].encode("utf-8", "surrogateescape")]
        if name == "type" and isinstance(value, str):
            opaque = _OPAQUE.get(value, ())
        if comma is None:
            break
        at = comma.end()
    if "type" not in members:
        raise wire.ProtocolError(f"a line of more than {WHOLE} bytes does not begin with its type")
    request = _made(members, 0)
    request.too_large()
    return request, None, 0


def complete(request: Request, name: str, parts: list[bytes], size: int) -> Request:
    """The request whose member `name` is the rest of its line. Raises ProtocolError where the line has no end."""
    while parts and not parts[-1].strip():
        parts.pop()
    last = parts[-1].rstrip() if parts else b""
    if not last.endswith(b"}"):
        raise wire.ProtocolError("a line is a JSON object")
    parts[-1] = last[:-1]
    return _made({**request._members, name: parts}, size)


def _made(members: dict[str, list[bytes]], size: int) -> Request:
    try:
        return Request(members, size)
    except Refused as error:
        raise wire.ProtocolError(str(error)) from None


def body(values: dict[str, Sequence[bytes]], fields: bytes) -> list[bytes]:
    """A JSON object of values as they came, and of the object `fields` after them, in parts.

    What we say comes last: with a name twice the last one holds, and a value that is not one value leaves no way
    to end after it.
    """
    parts = [b"{"]
    for name, value in values.items():
        parts += [b'"' + name.encode() + b'":', *value, b","]
    return [*parts, fields[1:]]


# possessive: what it has passed over it never goes back to
_OBJECT = re.compile(rb'\s*+(\{[^{}"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^{}"]*+)*+\})\s*+', re.DOTALL)
#: What may come after a list in its line, where the line is too long to be looked through: numbers.
_COUNTS = re.compile(rb'(\s*,\s*"[a-z_]{1,32}"\s*:\s*\d{1,20})*\s*')
_EMPTY = re.compile(rb"\[\s*\]" + _COUNTS.pattern)


def objects(parts: Sequence[bytes], most: int) -> Iterator[bytes]:
    """The flat objects of a JSON list, one by one, so that who reads them may pause between two.

    Raises Refused where it is none, or an object in it has more than `most` bytes.
    """
    data = b"".join(parts).strip()
    if data in (b"", b"null"):
        return
    if not data.startswith(b"["):
        raise Refused("bad_request", "lines: a list of lines is wanted")
    at = 1
    while True:
        found = _OBJECT.match(data, at, at + most)
        if found is None:
            if at == 1 and _EMPTY.fullmatch(data):
                return
            raise Refused("bad_request", f"lines: a list of flat objects of at most {most} bytes is wanted")
        yield found[1]
        at = found.end()
        after = data[at : at + 1]
        if after == b"]" and _COUNTS.fullmatch(data, at + 1):
            return
        if after != b",":
            raise Refused("bad_request", "lines: a list of flat objects is wanted")
        at += 1
