"""Text for a page: whatever a task, a person or a build has written, none of it does anything there.

Everything that a template puts out passes `visible`, and is escaped after it: control characters, marks that turn
the direction of writing, and what has no width are shown as what they are, so that no text can pass for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

#: Controls but tab and line feed, marks of direction, characters without width, halves of pairs.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
#: What a terminal takes as a colour; other sequences stay, and are seen.
_SGR = re.compile(r"\x1b\[([0-9;]{0,64})m")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def visible(text: str) -> str:
    return _HIDDEN.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0x1B:
        return "␛"
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"


def put_out(value: object) -> object:
    """What a template's expression becomes before it is escaped."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    return visible(value if isinstance(value, str) else str(value))


def brief(text: object, most: int = 120) -> str:
    """The first line of `text`, cut to `most` characters."""
    first = str(text).strip().partition("\n")[0]
    return first if len(first) <= most else first[: most - 1] + "…"


def coloured(text: str) -> Markup:
    """A line as a terminal would colour it, by classes; what else a terminal would obey is shown."""
    return Markup("").join(_spans(text))


def _spans(text: str) -> Iterator[Markup]:
    classes: dict[str, str] = {}
    at = 0
    for match in _SGR.finditer(text):
        yield _span(text[at : match.start()], classes)
        at = match.end()
        _apply(match[1], classes)
    yield _span(text[at:], classes)


def _span(text: str, classes: dict[str, str]) -> Markup:
    shown = escape(visible(text))
    if not shown or not classes:
        return shown
    return Markup('<span class="{}">{}</span>').format(" ".join(classes.values()), shown)


def _apply(codes: str, classes: dict[str, str]) -> None:
    numbers = [int(code) if len(code) < 4 and code else 0 for code in codes.split(";")]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            classes.clear()
        elif number == 1:
            classes["weight"] = "a-bold"
        elif number in (2, 3, 4):
            classes[f"style{number}"] = {2: "a-dim", 3: "a-italic", 4: "a-underline"}[number]
        elif number == 22:
            classes.pop("weight", None)
            classes.pop("style2", None)
        elif number in (23, 24):
            classes.pop(f"style{number - 20}", None)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            classes["colour"] = f"a-{_COLOURS[number % 10]}"
        elif 40 <= number <= 47 or 100 <= number <= 107:
            classes["ground"] = f"a-on-{_COLOURS[number % 10]}"
        elif number == 39:
            classes.pop("colour", None)
        elif number == 49:
            classes.pop("ground", None)
        elif number in (38, 48):  # one of 256 colours, or of all: as plain as before
            del numbers[: 2 if numbers[:1] == [5] else 4]
