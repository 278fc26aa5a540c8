"""A schedule in a real install: a tick missed while everything was down is a run in a container afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.stack import stack, written
from tests.waiting import eventually

pytestmark = pytest.mark.docker

TASK = """
from datetime import datetime
from typing import Optional

from samovar import Cron, task


@task(schedule=Cron("30 2 1 12 *", timezone="Europe/Berlin", catchup="all"), memory="64m")
def bill(scheduled_at: datetime, previous_at: Optional[datetime] = None) -> dict:
    return {"year": scheduled_at.year, "at": scheduled_at, "first": previous_at is None}
"""


def test_a_missed_tick_runs_after_the_start_with_its_own_time(tmp_path: Path) -> None:
    with stack() as samovar:
        samovar.deploy_path(written(tmp_path, "scheduled", TASK))
        (schedule,) = samovar.cli("schedules", "list")["items"]
        samovar.stop()
        # as if it had been down when last year's tick was due
        following = datetime.fromisoformat(schedule["next_at"])
        missed = following.replace(year=following.year - 1)
        with closing(sqlite3.connect(samovar.data / "coordinator.db")) as database, database:
            database.execute("UPDATE schedules SET next_at = ?", (missed.timestamp(),))
        samovar.up()

        def made() -> Any:
            return samovar.cli("runs", "list", "--task", "bill", "--status", "completed")["items"]

        (found,) = eventually(made, "the missed tick to have run", 120)
        run = samovar.cli("runs", "show", found["id"])
        local = f"{missed.year}-12-01T02:30:00+01:00"
        assert run["payload"] == {"scheduled_at": local}
        assert run["result"] == {"year": missed.year, "at": local, "first": True}
        (after,) = samovar.cli("schedules", "list")["items"]
        assert after["next_at"] == schedule["next_at"]
        assert after["last"] == {
            "at": missed.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "run": run["id"],
            "status": "completed",
            "problem": None,
        }
