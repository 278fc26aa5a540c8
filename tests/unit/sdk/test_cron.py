"""`Cron`: what it takes, and what it refuses where it is written."""

from __future__ import annotations

from typing import Any

import pytest
from samovar import Cron, OptionError, task
from samovar.declare.registry import registry


@pytest.mark.parametrize(
    "line",
    [
        "* * * * *",
        "*/15 8-18 * * MON-FRI",
        "0,30 0 1,15 jan-mar,DEC *",
        "0 3 L * *",
        "0 3 LW * *",
        "5/10 0 * * 7",
        "0 0 * * MON#2",
        "0 0 * * 5L",
        "1-50/7 0 29 2 *",
    ],
)
def test_lines_that_the_coordinator_takes_are_taken(line: str) -> None:
    from coordinator.tasks import cron

    assert Cron(line).describe() == {"cron": line, "timezone": "UTC", "catchup": "skip"}
    cron.check(line, "UTC")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 3 * *", "4 fields instead of five"),
        ("0 0 3 * * *", "6 fields instead of five"),
        ("@daily", "1 fields instead of five"),
        ("60 * * * *", "the minute is '60': '60' is not from 0 to 59"),
        ("0 24 * * *", "the hour is '24'"),
        ("0 0 0 * *", "the day of the month is '0'"),
        ("0 0 * FOO *", "'FOO' is not from 1 to 12, or JAN to DEC"),
        ("0 0 * * 8", "'8' is not from 0 to 7, or SUN to SAT"),
        ("0 0 * * FRI-MON", "runs backwards"),
        ("*/0 * * * *", "a step of 0"),
        ("5- * * * *", "is no value, range or step"),
        ("1,,2 * * * *", "is no value, range or step"),
        ("*-5 * * * *", "whole range already"),
        ("0 0 * * MON#6", "is no number from 1 to 5"),
        ("0 0 ² * *", "the day of the month"),
        (5, "give a line of five fields"),
        (None, "give a line of five fields"),
        ("1," * 200 + "1 * * * *", "256 characters"),
    ],
)
def test_a_bad_line_names_field_value_and_remedy(line: Any, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        Cron(line)
    assert words in str(refused.value)
    assert repr(line) in str(refused.value)


def test_a_bad_zone_or_catchup_is_refused() -> None:
    with pytest.raises(OptionError, match="did you mean 'Europe/Berlin'"):
        Cron("0 3 * * *", timezone="Europe/Berln")
    for zone in ("", None, 3, "../../etc/passwd", "a\0b"):
        with pytest.raises(OptionError, match=r"Cron\(timezone="):
            Cron("0 3 * * *", timezone=zone)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r'catchup=.*give "skip" or "all"'):
        Cron("0 3 * * *", catchup="some")


def test_without_zones_in_a_container_the_name_is_left_to_the_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert Cron("0 3 * * *", timezone="Europe/Berlin").timezone == "Europe/Berlin"


def test_the_schedule_of_a_task_stands_in_its_options() -> None:
    try:

        @task(id="nightly", schedule=Cron("0  3 * * *", timezone="Europe/Berlin", catchup="all"))
        def nightly() -> None: ...

        assert nightly.options["schedule"] == {
            "cron": "0 3 * * *",
            "timezone": "Europe/Berlin",
            "catchup": "all",
        }
        with pytest.raises(OptionError, match="schedule='0 3"):
            task(id="nightly", schedule="0 3 * * *")(lambda: None)  # type: ignore[call-overload]
    finally:
        registry.pop("nightly", None)
