"""What the sidecar and its egress process say to each other: lines of JSON over a socket pair.

Down go rules and attempts, up come lines for logs and counts. Neither has a token, a secret or a payload in it.
"""

from __future__ import annotations

import msgspec

from sidecar.egress.records import HostCount
from sidecar.egress.rules import Limits

#: Bytes of a line: 10,000 private hosts of 260 characters, and some.
LONGEST = 4 * 1024 * 1024


class Listen(msgspec.Struct, tag="listen", frozen=True):
    """Listen for `container` at `path`; where it is listened for already, what it may reach is changed."""

    container: str
    path: str
    limits: Limits


class Open(msgspec.Struct, tag="open", frozen=True):
    """`attempt` is bound to the container from now on; it has passed on `spent` bytes before."""

    container: str
    attempt: str
    spent: int = 0


class Begun(msgspec.Struct, tag="begun", frozen=True):
    """From now on user code may be in the container: nothing is handed over there any more."""

    container: str


class Close(msgspec.Struct, tag="close", frozen=True):
    """The attempt is over: its connections end, then `Closed` is answered."""

    container: str
    attempt: str


class Forget(msgspec.Struct, tag="forget", frozen=True):
    container: str


class Listening(msgspec.Struct, tag="listening", frozen=True):
    """Answers `Listen`; `problem` where it could not be done."""

    container: str
    problem: str | None = None


class Line(msgspec.Struct, tag="line", frozen=True):
    """For the log of the attempt."""

    container: str
    attempt: str
    level: str
    message: str


class Counts(msgspec.Struct, tag="counts", frozen=True):
    """What the attempt has reached since this process began; `spent` with what it had before."""

    container: str
    attempt: str
    spent: int
    hosts: list[HostCount]


class Closed(msgspec.Struct, tag="closed", frozen=True):
    """Nothing of the attempt is open any more, and nothing more is said of it."""

    container: str
    attempt: str


Down = Listen | Begun | Open | Close | Forget
Up = Listening | Line | Counts | Closed

_encoder = msgspec.json.Encoder()
_down: msgspec.json.Decoder[Down] = msgspec.json.Decoder(Down)
_up: msgspec.json.Decoder[Up] = msgspec.json.Decoder(Up)


def encode(message: Down | Up) -> bytes:
    return _encoder.encode(message) + b"\n"


def down(line: bytes) -> Down:
    """Raises msgspec.MsgspecError."""
    return _down.decode(line)


def up(line: bytes) -> Up:
    """Raises msgspec.MsgspecError."""
    return _up.decode(line)


class Splitter:
    """Bytes to lines."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises ValueError for one that is longer than any is."""
        self._data += data
        if len(self._data) > LONGEST and b"\n" not in self._data:
            raise ValueError(f"a message of more than {LONGEST} bytes")
        *lines, rest = bytes(self._data).split(b"\n")
        self._data = bytearray(rest)
        return lines
