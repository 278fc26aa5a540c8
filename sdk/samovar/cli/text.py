"""Text that others wrote, on its way to a person: nothing in it is an instruction to the terminal.

Logs, results, tracebacks and names come from tasks. On a terminal an escape sequence in them could move the
cursor, set the title, paste into the input or write one thing and show another; so control characters are shown
as Python writes them (`\\x1b`, `\\u202e`). A pipe or a file gets every character as it was written.
"""

from __future__ import annotations

import re
from typing import Any, TextIO

from rich.text import Text

#: C0 but tab and newline, DEL and C1, the marks that turn the direction of text, and the two that break lines.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SHORT = {"\r": "\\r", "\b": "\\b", "\a": "\\a", "\v": "\\v", "\f": "\\f"}


def visible(text: str) -> str:
    """`text` with its control characters written out; tabs, newlines and all letters stay."""
    return _CONTROLS.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    character = found.group()
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def is_terminal(stream: Any) -> bool:
    """Whether what is written to `stream` is looked at as it is written."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # replaced, or closed
        return False


def styled(stream: Any, text: str, style: str | None = None) -> Text:
    """`text` for rich, which then reads neither markup nor emoji in it; for `stream`, terminal or not."""
    return Text(visible(text) if is_terminal(stream) else text, style=style or "")


def write(stream: TextIO, text: str) -> None:
    """`text` and a newline, as UTF-8 whatever the locale, each character as it is."""
    data = (text + "\n").encode("utf-8", "backslashreplace")
    raw = getattr(stream, "buffer", None)
    if raw is None:  # a test's or a notebook's own stream
        stream.write(data.decode("utf-8"))
    else:
        stream.flush()
        raw.write(data)
    stream.flush()
