"""Cron lines: whether one can be used, and when it fires.

A line means local times of its zone. Where the clock is changed: a local time that does not exist fires once, at
the jump; one that exists twice fires the first time. A line whose hours are `*` fires in every hour that passes,
so in both of a doubled hour and in none for one that is left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from coordinator.foundation.errors import Invalid
from coordinator.wire import FieldProblem

_LONGEST = 256
_FIELDS = "minute, hour, day of the month, month, day of the week"


class BadSchedule(Invalid):
    """A cron line or a time zone cannot be used; `fields` names which of `cron` and `timezone`."""

    code = "bad_schedule"

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}", fields=[FieldProblem(path=path, message=message)])


def check(cron: str, timezone: str) -> None:
    """Raises BadSchedule: a field is wrong, the zone is unknown, or the line never fires."""
    next(times(cron, timezone, datetime.now(UTC).timestamp()))


def next_after(cron: str, timezone: str, after: float) -> float:
    """The first time, in seconds since the epoch, later than `after`. Raises BadSchedule."""
    return next(times(cron, timezone, after))


def upcoming(cron: str, timezone: str, after: float, count: int) -> list[float]:
    """The next `count` times later than `after`."""
    return list(islice(times(cron, timezone, after), count))


def times(cron: str, timezone: str, after: float) -> Iterator[float]:
    """Every time later than `after`, in order, each once. Raises BadSchedule."""
    line = _normal(cron)
    start = datetime.fromtimestamp(after, zone(timezone))
    try:
        found = CronSim(line, start)
    except (CronSimError, ValueError, AssertionError) as error:
        raise BadSchedule("cron", _reason(cron, str(error))) from None
    last = after
    while True:
        try:
            at = next(found).timestamp()
        except (StopIteration, OverflowError, ValueError):
            break
        # by local time, what comes next may lie behind: in the second of two equal hours, and at a jump
        if at > last:
            last = at
            yield at
    if last == after:
        raise BadSchedule(
            "cron", f"{cron!r} never fires: nothing in the next 50 years fits; change the day or the month"
        )


@lru_cache(maxsize=512)
def zone(timezone: str) -> tzinfo:
    """The zone of that IANA name. Raises BadSchedule, with near names."""
    if timezone == "UTC":
        return UTC
    try:
        return ZoneInfo(timezone)
    except (LookupError, ValueError, OSError):
        near = difflib.get_close_matches(timezone[:64], available_timezones(), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else 'give one such as "Europe/Berlin"'
        raise BadSchedule("timezone", f"there is no time zone {timezone!r}: {hint}") from None


def _normal(cron: str) -> str:
    """The line with `*` spelled out wherever it stands beside chosen hours.

    The library takes a line with a star in minutes or hours for one that follows time as it passes, which is
    right for every hour, and wrong for `*/30 2 * * *`.
    """
    fields = cron.split()
    if len(cron) > _LONGEST or len(fields) != 5:
        raise BadSchedule(
            "cron", f"{cron[:80]!r} is not five fields of, together, at most {_LONGEST} characters: {_FIELDS}"
        )
    minute, hour, *rest = fields
    if hour != "*":
        minute = _spelled_out(minute, "0-59")
        hour = _spelled_out(hour, "0-23")
    return " ".join([minute, hour, *rest])


def _spelled_out(field: str, whole: str) -> str:
    return ",".join(whole + term[1:] if term.startswith("*") else term for term in field.split(","))


def _reason(cron: str, said: str) -> str:
    field = said.removeprefix("Bad ").replace("-", " ") if said.startswith("Bad ") else "line"
    if field == "day of month" and _day_exists_alone(cron):
        return f"{cron!r} never fires: none of its months has such a day; change the day or the month"
    return f"{cron!r}: the {field} is wrong; give {_FIELDS}, as in '0 3 * * *' or '*/15 8-18 * * MON-FRI'"


def _day_exists_alone(cron: str) -> bool:
    """Whether the day is one of some month, so that only the line's months are against it."""
    fields = cron.split()
    try:
        CronSim(" ".join([*fields[:3], "*", fields[4]]), datetime.now(UTC))
    except (CronSimError, ValueError, AssertionError):
        return False
    return True
