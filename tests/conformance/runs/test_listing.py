"""The list of runs: every pair of filters finds what fits, in its order, page by page, and reads little for it."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from coordinator.runs import runs
from coordinator.runs.runs import Filter
from coordinator.storage.tables import run_tags
from coordinator.storage.tables import runs as table
from tests.conformance import plans
from tests.conformance.store import Store

MANY, FEW = 4_000, 100
PROJECTS, TASKS = ("orders", "mail"), ("greet", "send")
STATUSES = ("completed", "failed", "timed_out", "expired")
#: With the share of runs that have it.
TAGS = {"common": 0.5, "rare": 0.005}
MINUTE = 60.0

GIVEN: dict[str, tuple[Any, ...]] = {
    "statuses": (("failed",), ("completed", "expired"), ("failed", "timed_out", "expired"), ("expired", "expired")),
    "task": ("greet", "orders/greet", "mail/greet"),
    "project": PROJECTS,
    "tags": (("common",), ("rare",), ("common", "rare"), ("nothing",)),
    "since": (30 * MINUTE, 1000 * MINUTE),
}


@pytest.fixture
def many(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One run a minute, of which few are of the task `greet` of `mail`."""
    monkeypatch.setattr(runs, "_FEW_TAGGED", FEW)
    store.deploy()
    template = dict(store.trigger()._mapping) | {"expires_at": None, "tags": "[]"}
    drawn = random.Random(5)

    def fill(conn: Connection, now: float) -> None:
        rows, tagged = [], []
        for n in range(MANY):
            project = PROJECTS[n % 10 == 0]
            made = now - MINUTE * n
            name = runs.ids.least("run", made)
            rows.append(
                template
                | {
                    "id": name,
                    "project": project,
                    "task": "greet" if project == "orders" or drawn.random() < 0.05 else "send",
                    "status": drawn.choices(STATUSES, (80, 15, 4, 1))[0],
                    "created_at": made,
                    "finished_at": made,
                }
            )
            tagged += [{"tag": tag, "run_id": name} for tag, share in TAGS.items() if drawn.random() < share]
        conn.execute(insert(table), rows)
        conn.execute(insert(run_tags), tagged)
        if conn.dialect.name != "sqlite":
            conn.execute(text("ANALYZE runs, run_tags"))

    store.write(fill)
    return store


def fits(row: Any, tags: set[tuple[str, str]], wanted: Filter) -> bool:
    project, _, task = (wanted.task or "").rpartition("/")
    return (
        (not wanted.statuses or row.status in wanted.statuses)
        and (not task or row.task == task)
        and row.project in (project or row.project, wanted.project or project or row.project)
        and (wanted.project is None or row.project == wanted.project)
        and (not project or row.project == project)
        and all((tag, row.id) in tags for tag in wanted.tags)
        and (wanted.since is None or row.created_at >= wanted.since)
    )


def test_every_pair_of_filters_finds_what_fits_page_by_page(many: Store) -> None:
    def look(conn: Connection, now: float) -> None:
        rows = list(conn.execute(table.select().order_by(table.c.id.desc())))
        tags = {(row.tag, row.run_id) for row in conn.execute(run_tags.select())}
        empty = 0
        for (one, values), (other, others) in itertools.combinations(GIVEN.items(), 2):
            for value, another in itertools.product(values, others):
                given = {one: value, other: another}
                if "since" in given:
                    given["since"] = now - given["since"]
                wanted = Filter(limit=40, **given)
                expected = [row.id for row in rows if fits(row, tags, wanted)]
                found: list[str] = []
                cursor: str | None = None
                for _ in range(3):
                    page, cursor = runs.listing(conn, now, wanted._replace(cursor=cursor))
                    found += [row.id for row in page]
                    if cursor is None:
                        break
                assert found == expected[:120], given
                assert runs.count(conn, now, wanted, 1000) == min(1000, len(expected)), given
                empty += not expected
        assert empty, "what nothing fits is among them"

    many.read(look)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(statuses=("failed", "timed_out", "expired"), limit=10), "ix_runs_status"),
        (Filter(task="mail/greet", limit=10), "ix_runs_project_task"),
        (Filter(task="nothing", project="mail", limit=10), "ix_runs_project_task"),
    ],
    ids=["statuses", "a task of one project", "a task that another project has"],
)
def test_they_are_read_by_an_index_in_its_order(many: Store, wanted: Filter, index: str) -> None:
    _, plan = plans.of_listing(many, wanted)
    assert re.search(rf"\b{index}\b", plan), plan
    assert not re.search(r"SCAN runs\b|Seq Scan on runs\b", plan), plan
