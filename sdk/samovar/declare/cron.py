"""`Cron`: when a task runs by itself. Checked here without any library; deploying checks the rest."""

from __future__ import annotations

import re
from typing import Any

from samovar.errors import OptionError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

#: Each field: its name, its range, and the names of its values, beginning with the range's first.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)

_TERM = re.compile(r"(\*|[^-/]+)(?:-([^-/]+))?(?:/([0-9]{1,4}))?")


class Cron:
    """A cron line in a time zone: `Cron("0 3 * * *", timezone="Europe/Berlin", catchup="skip")`.

    `cron`: minute, hour, day of the month, month, day of the week; `*`, `1,15`, `8-18`, `*/5`, `MON-FRI`, and `L`
    (the last day), `MON#2` (the second Monday), `5L` (the last Friday). `timezone`: an IANA name. `catchup`: what
    becomes of ticks that were missed because nothing ran: "skip" leaves them out, "all" makes a run of each, in
    order. Raises OptionError naming the field, its value and what would do.
    """

    __slots__ = ("catchup", "cron", "timezone")

    def __init__(self, cron: str, timezone: str = "UTC", catchup: str = "skip") -> None:
        self.cron = _line(cron)
        self.timezone = _timezone(timezone)
        if not isinstance(catchup, str) or catchup not in ("skip", "all"):
            raise OptionError(f'Cron(catchup={catchup!r}): give "skip" or "all"')
        self.catchup = catchup

    def __repr__(self) -> str:
        return f"Cron({self.cron!r}, timezone={self.timezone!r}, catchup={self.catchup!r})"

    def describe(self) -> dict[str, Any]:
        """What the coordinator keeps, as it stands in the index."""
        return {"cron": self.cron, "timezone": self.timezone, "catchup": self.catchup}


def _line(cron: object) -> str:
    if not isinstance(cron, str):
        raise OptionError(f'Cron({cron!r}): give a line of five fields, such as "0 3 * * *"')
    fields = cron.upper().split()
    if len(fields) != len(_FIELDS) or len(cron) > 256:
        raise OptionError(
            f"Cron({cron!r}): {len(fields)} fields instead of five (256 characters at most): minute, hour, "
            'day of the month, month, day of the week, such as "0 3 * * *"'
        )
    for text, (name, least, most, names) in zip(fields, _FIELDS):
        for term in text.split(","):
            problem = _term(term, name, least, most, names)
            if problem:
                raise OptionError(f"Cron({cron!r}): the {name} is {text!r}: {problem}")
    return " ".join(cron.split())


def _term(term: str, name: str, least: int, most: int, names: tuple[str, ...]) -> str | None:
    """What is wrong with one of a field's terms."""
    if name == "day of the month" and term in ("L", "LW"):
        return None
    if name == "day of the week":
        if re.fullmatch(r"[0-7]L", term):
            return None
        day, mark, number = term.partition("#")
        if mark:
            if number not in ("1", "2", "3", "4", "5"):
                return f"{number!r} after # is no number from 1 to 5"
            term = day
    match = _TERM.fullmatch(term)
    if match is None:
        return f"{term!r} is no value, range or step; give one such as {least}, {least}-{most} or */2"
    first, last, step = match.groups()
    if step is not None and int(step) == 0:
        return f"a step of 0 in {term!r}; give 1 or more"
    if first == "*":
        return None if last is None else f"{term!r}: * is the whole range already"
    numbers = []
    for word in (first, last):
        if word is None:
            continue
        value = _value(word, least, names)
        if value is None or not least <= value <= most:
            allowed = f"{least} to {most}" + (f", or {names[0]} to {names[-1]}" if names else "")
            return f"{word!r} is not from {allowed}"
        numbers.append(value)
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        return f"{term!r} runs backwards; give the smaller one first, or two terms with a comma"
    return None


def _value(word: str, least: int, names: tuple[str, ...]) -> int | None:
    if word in names:
        return names.index(word) + least
    return int(word) if re.fullmatch("[0-9]{1,4}", word) else None


def _timezone(timezone: object) -> str:
    if not isinstance(timezone, str) or not timezone:
        raise OptionError(f'Cron(timezone={timezone!r}): give the name of a zone, such as "Europe/Berlin"')
    if timezone == "UTC":
        return timezone
    from zoneinfo import ZoneInfo, available_timezones

    try:
        ZoneInfo(timezone)
    except (LookupError, ValueError, OSError):
        known = available_timezones()
        if known:  # a container need not have the zones: the coordinator does
            from difflib import get_close_matches

            close = get_close_matches(timezone, known, 3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else 'give one such as "Europe/Berlin"'
            raise OptionError(f"Cron(timezone={timezone!r}): there is no such time zone: {hint}") from None
    return timezone
