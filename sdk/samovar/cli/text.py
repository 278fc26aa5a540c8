"""Text that others wrote, on its way to a person: nothing in it is an instruction to the terminal.

Logs, results, tracebacks and names come from tasks. On a terminal an escape sequence in them could move the
cursor, set the title, paste into the input or write one thing and show another; so control characters are shown
as Python writes them (`\\x1b`, `\\u202e`). A pipe or a file gets every character as it was written.
"""

from __future__ import annotations

import unicodedata
from typing import Any, TextIO

from rich.text import Text

#: Characters of formatting that words are spelled and emoji joined with: the joiners and the soft hyphen.
_SPELLING = "\u200c\u200d\u00ad"
#: Control characters but tab and newline, surrogates, what breaks lines, and all that is there and not seen: marks
#: that turn the direction of text, spaces of no width, tags.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_LAYOUT = "\t\n"
_SHORT = {"\r": "\\r", "\b": "\\b", "\a": "\\a", "\v": "\\v", "\f": "\\f"}


def visible(text: str) -> str:
    """`text` with its control characters written out; tabs, newlines and all letters stay."""
    if text.isprintable():
        return text
    return "".join(_written(character) if acts(character) else character for character in text)


def acts(character: str) -> bool:
    """Whether a terminal does with `character` anything else than showing it."""
    return character not in _LAYOUT and unicodedata.category(character) in _HIDDEN and character not in _SPELLING


def _written(character: str) -> str:
    code = ord(character)
    short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return _SHORT.get(character) or (short if code < 0x10000 else f"\\U{code:08x}")


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
