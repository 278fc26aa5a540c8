"""Dates and times as JSON text: ISO 8601 as programs write it, read alike by every Python and by the coordinator.

`datetime.fromisoformat` of each Python knows other forms; these patterns are what all of them and RFC 3339 have in
common, with the date alone, the space and the missing seconds and zone that people write.
"""

from __future__ import annotations

import datetime
import re

_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?"
DATE = f"^{_DAY}$"
TIME = f"^{_CLOCK}$"
DATETIME = f"^{_DAY}([Tt ]{_CLOCK})?$"
#: One of each, by the format's name in JSON Schema.
EXAMPLES = {"date-time": "2025-01-31T12:00:00Z", "date": "2025-01-31", "time": "12:00:00"}

_PARTS = re.compile(
    r"(?:(\d{4})-(\d\d)-(\d\d))?[Tt ]?"
    r"(?:(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:([Zz])|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)


def read_datetime(text: str) -> datetime.datetime:
    """A date and time; midnight where there is only a date. Raises ValueError."""
    found = _parts(DATETIME, text)
    clock = _clock(found)
    return datetime.datetime.combine(_day(found), clock)


def read_date(text: str) -> datetime.date:
    """A date. Raises ValueError."""
    return _day(_parts(DATE, text))


def read_time(text: str) -> datetime.time:
    """A time of day, with its zone where it has one. Raises ValueError."""
    return _clock(_parts(TIME, text))


def _parts(pattern: str, text: str) -> re.Match[str]:
    found = _PARTS.fullmatch(text) if re.match(pattern, text) else None
    if found is None:
        raise ValueError(text)
    return found


def _day(found: re.Match[str]) -> datetime.date:
    year, month, day = (int(part) for part in found.group(1, 2, 3))
    return datetime.date(year, month, day)


def _clock(found: re.Match[str]) -> datetime.time:
    hour, minute, second = (int(part or 0) for part in found.group(4, 5, 6))
    fraction, utc, sign, hours, minutes = found.group(7, 8, 9, 10, 11)
    zone = datetime.timezone.utc if utc else None
    if sign:
        offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
        zone = datetime.timezone(-offset if sign == "-" else offset)
    return datetime.time(hour, minute, second, int((fraction or "0").ljust(6, "0")[:6]), zone)
