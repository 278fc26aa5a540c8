"""When cron lines fire, above all where a clock is changed."""

from __future__ import annotations

from datetime import datetime

import pytest

from coordinator.tasks import cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def fires(line: str, zone: str, after: str, count: int) -> list[str]:
    """The next `count` local times after the local time `after`."""
    start = datetime.fromisoformat(after).replace(tzinfo=cron.zone(zone)).timestamp()
    found = cron.upcoming(line, zone, start, count)
    assert found == sorted(set(found))
    assert all(time > start for time in found)
    return [datetime.fromtimestamp(time, cron.zone(zone)).strftime("%d %H:%M%z") for time in found]


@pytest.mark.parametrize(
    ("line", "zone", "after", "expected"),
    [
        # 2026-03-29 in Berlin: 02:00 becomes 03:00
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:30+0200"]),
        ("15,45 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:15+0200"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:00+0200"]),
        ("0 2,3 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:00+0200"]),
        ("0 * * * *", BERLIN, "2026-03-29T00:30", ["29 01:00+0100", "29 03:00+0200"]),
        # 2026-03-08 in New York: 02:00 becomes 03:00
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", ["08 03:00-0400", "09 02:30-0400"]),
        ("0 */2 * * *", NEW_YORK, "2026-03-08T00:30", ["08 03:00-0400", "08 04:00-0400"]),
    ],
)
def test_a_local_time_that_does_not_exist_fires_once_at_the_jump(
    line: str, zone: str, after: str, expected: list[str]
) -> None:
    assert fires(line, zone, after, 2) == expected


@pytest.mark.parametrize(
    ("line", "zone", "after", "expected"),
    [
        # 2026-10-25 in Berlin: 03:00 becomes 02:00
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["25 02:30+0200", "26 02:30+0100"]),
        ("*/30 2 * * *", BERLIN, "2026-10-25T01:00", ["25 02:00+0200", "25 02:30+0200", "26 02:00+0100"]),
        ("30 * * * *", BERLIN, "2026-10-25T02:00", ["25 02:30+0200", "25 02:30+0100", "25 03:30+0100"]),
        # 2026-11-01 in New York: 02:00 becomes 01:00
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", ["01 01:30-0400", "02 01:30-0500"]),
        ("0 */1 * * *", NEW_YORK, "2026-11-01T00:30", ["01 01:00-0400", "01 02:00-0500"]),
    ],
)
def test_a_local_time_that_exists_twice_fires_the_first_time(
    line: str, zone: str, after: str, expected: list[str]
) -> None:
    assert fires(line, zone, after, len(expected)) == expected


@pytest.mark.parametrize(("line", "zone"), [("30 2 * * *", BERLIN), ("30 1 * * *", NEW_YORK)])
def test_asked_in_the_second_of_two_hours_the_next_is_tomorrow(line: str, zone: str) -> None:
    day = "2026-10-25T02:15" if zone == BERLIN else "2026-11-01T01:15"
    second = datetime.fromisoformat(day).replace(tzinfo=cron.zone(zone), fold=1).timestamp()
    found = datetime.fromtimestamp(cron.next_after(line, zone, second), cron.zone(zone))
    assert found.strftime("%d %H:%M") == ("26 02:30" if zone == BERLIN else "02 01:30")


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Africa/Cairo", "UTC"])
@pytest.mark.parametrize("line", ["0 0 * * *", "30 2 * * *", "15 * * * *", "*/20 1-3 * * *", "0 9 L * *"])
def test_one_tick_leads_to_the_next_as_a_look_ahead_says(line: str, zone: str) -> None:
    start = datetime(2026, 3, 1, tzinfo=cron.zone(zone)).timestamp()
    ahead = cron.upcoming(line, zone, start, 120)
    one_by_one = []
    for _ in ahead:
        start = cron.next_after(line, zone, start)
        one_by_one.append(start)
    assert one_by_one == ahead


def test_days_are_as_cron_has_them() -> None:
    assert fires("0 12 29 2 *", "UTC", "2026-01-01", 1) == ["29 12:00+0000"]
    assert fires("0 0 13 * FRI", "UTC", "2026-11-10", 2) == ["13 00:00+0000", "20 00:00+0000"]
    assert fires("0 0 * * MON#2", "UTC", "2026-11-01", 1) == ["09 00:00+0000"]
    assert fires("0 0 L * *", "UTC", "2026-11-01", 1) == ["30 00:00+0000"]


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 */30 2 MON#5"])
def test_a_line_that_never_fires_is_refused(line: str) -> None:
    with pytest.raises(cron.BadSchedule, match="never fires"):
        cron.check(line, "UTC")


@pytest.mark.parametrize("line", ["", "* * * *", "@daily", "0 0 0 1 *", "0 0 * * L", "5-1 * * * *", "*-5 0 * * *"])
def test_a_bad_line_is_refused_with_its_value(line: str) -> None:
    with pytest.raises(cron.BadSchedule) as refused:
        cron.check(line, "UTC")
    assert repr(line) in refused.value.message
