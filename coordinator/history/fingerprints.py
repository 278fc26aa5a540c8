"""What makes two errors the same: their type, and the function of the project's own code that raised them.

Neither the message counts nor the number of the line: a message has the order's id in it, and a line moves when
another function of the file is edited. What has no such function (a container that ran out of memory, was lost or
killed) is told apart by its reason and type, or by its message without the numbers and names in it.

All of an error is the user's text: it is looked at to a bounded length, once.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from coordinator.storage.values import encode_small
from coordinator.wire import ErrorBody

#: Characters of a traceback that are looked at, from its end, and of its lines.
_LOOKED_AT = 64 * 1024
_LINE = 2048
#: Characters of a type, and of the first line of a message, that are kept.
MAX_TYPE, MAX_TITLE = 200, 200
#: Hexadecimal digits of a fingerprint.
DIGITS = 16

_HEAD = "Traceback (most recent call last):"
#: As Python writes a frame; those of a group's members stand behind a bar.
_FRAME = re.compile(r'(?:  |  [ |]*\|   ?)File "([^"]{1,1024})", line \d{1,10}, in (\S.{0,511})')
#: Code that is not the project's: installed packages, the standard library, Samovar's own, what was never a file.
_FOREIGN = re.compile(r"(?:^|/)(?:site|dist)-packages/|/python3(?:\.\d+)?/|^/opt/samovar/|^<|\.zip/")
#: Where a project's code stands in its image.
_CODE = "/app/"
#: Left out of what stands in a column of its own: PostgreSQL takes no NUL, and no list should show an escape.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)])
_WORD = re.compile(r"""'[^']*'|"[^"]*"|\S*\d\S*""")


def of(error: ErrorBody) -> str:
    """The fingerprint: DIGITS hexadecimal digits."""
    kind = error.type[:MAX_TYPE]
    parts: tuple[str, ...]
    if error.reason != "exception":
        parts = ("reason", error.reason, kind)
    elif (frame := top_frame(error.traceback or "")) is not None:
        parts = ("frame", kind, *frame)
    else:
        parts = ("message", kind, _WORD.sub("*", title(error)))
    text = "\0".join(parts).encode("utf-8", "replace")
    return hashlib.blake2s(text, digest_size=DIGITS // 2).hexdigest()


def top_frame(traceback: str) -> tuple[str, str] | None:
    """File, relative to the project, and function of the last frame that is the project's own; None for none.

    Where an error led to another, that is a frame of the last one, if it has one.
    """
    found: tuple[str, str] | None = None
    of_last: tuple[str, str] | None = None
    for line in traceback[-_LOOKED_AT:].split("\n"):
        if line.endswith(_HEAD):
            of_last = None
        elif len(line) <= _LINE and (frame := _FRAME.fullmatch(line)) and not _FOREIGN.search(frame[1]):
            found = of_last = (frame[1].removeprefix(_CODE), frame[2])
    return of_last or found


def title(error: ErrorBody) -> str:
    """The first line of its message that says something."""
    for line in error.message[: 8 * MAX_TITLE].splitlines():
        if line := line.translate(_CONTROLS).strip():
            return line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 1] + "…"
    return ""


class Known(NamedTuple):
    """What is told of an error: found once, and written to the attempt, its run and the fact of their end."""

    reason: str
    text: str
    type: str
    fingerprint: str
    title: str

    def columns(self) -> dict[str, str]:
        """Of a run or an attempt that ends with it."""
        return {"error": self.text, "error_type": self.type, "error_fingerprint": self.fingerprint}


#: The same of one that ends without an error.
NO_ERROR = dict.fromkeys(("error", "error_type", "error_fingerprint"))


def know(error: ErrorBody) -> Known:
    text = encode_small(error.model_dump())
    return Known(error.reason, text, error.type[:MAX_TYPE].translate(_CONTROLS), of(error), title(error))
