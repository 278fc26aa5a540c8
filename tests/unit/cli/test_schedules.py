"""`samovar schedules` against a real coordinator."""

from __future__ import annotations

import copy
from pathlib import Path

from tests.unit.cli.conftest import TASKS, Hand, Install


def test_list_look_ahead_pause_and_resume(install: Install, hand: Hand, project: Path) -> None:
    assert "schedule=Cron(...)" in install.samovar("schedules", "list").err
    assert install.json("schedules", "list") == {"items": [], "next": None}
    (task,) = copy.deepcopy(TASKS)
    task["id"], task["schema"] = "report", {"type": "object"}
    task["options"]["schedule"] = {"cron": "0 4 * * *", "timezone": "Europe/Berlin", "catchup": "all"}
    hand.tasks = [task]
    install.samovar("deploy", str(project))

    (item,) = install.json("schedules", "list", "--project", "demo")["items"]
    assert (item["task"], item["cron"], item["catchup"], item["last"]) == ("report", "0 4 * * *", "all", None)
    assert "Europe/Berlin" in install.samovar("schedules", "list").out
    lines = install.samovar("schedules", "next", "demo/report", "--count", "3").out.splitlines()
    assert [line[10:19] for line in lines] == ["T04:00:00"] * 3
    assert [
        tick["local"] for tick in install.json("schedules", "next", item["id"], "--count", "3")["items"]
    ] == lines

    assert install.samovar("schedules", "pause", "report").out.strip() == "demo/report is paused"
    assert "paused" in install.samovar("schedules", "list").out
    paused = install.samovar("schedules", "next", "report")
    assert "is paused" in paused.err
    assert paused.out.splitlines()[:3] == lines
    resumed = install.json("schedules", "resume", "report")
    assert resumed == item


def test_an_unknown_schedule_and_a_bad_count_are_refused(install: Install) -> None:
    refused = install.json("schedules", "pause", "nothing", code=4)["error"]
    assert "samovar schedules list" in refused["message"]
    assert "'nothing'" in refused["message"]
    install.samovar("schedules", "next", "nothing", "--count", "0", code=2)
