"""The list of runs: every pair of filters finds what fits, in its order, page by page, and reads little for it."""

from __future__ import annotations

import itertools
import json
import random
import re
from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator.runs import runs
from coordinator.runs.filters import Filter
from coordinator.storage.tables import run_tags
from coordinator.storage.tables import runs as table
from tests.conformance import plans
from tests.conformance.bulk import insert_many
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
    "version": ("v2",),
    "origin": ("schedule",),
    "start": ("cold",),
    "longer": (5.0,),
    "ended": (600 * MINUTE,),
    "text": ("ORDER 1", 'said "no"', "%"),
}
#: Of what has no index a page looks at so many.
LOOK = 700


@pytest.fixture
def many(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One run a minute, of which few are of the task `greet` of `mail`."""
    monkeypatch.setattr(runs, "_FEW_TAGGED", FEW)
    monkeypatch.setattr(runs, "_LOOK", LOOK)
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
                    "version": f"v{drawn.choices((1, 2), (99, 1))[0]}",
                    "origin": drawn.choices(("api", "schedule"), (95, 5))[0],
                    "start": drawn.choices(("warm", "cold"), (90, 10))[0],
                    "run_ms": drawn.expovariate(1 / 1000),
                    "idempotency_key": f"order {n}",
                    "error_type": "ValueError" if n % 50 == 0 else None,
                    "error": json.dumps({"type": "ValueError", "message": f'it said "no" at {n} %'})
                    if n % 50 == 0
                    else None,
                }
            )
            tagged += [{"tag": tag, "run_id": name} for tag, share in TAGS.items() if drawn.random() < share]
        insert_many(conn, table, rows)
        insert_many(conn, run_tags, tagged)

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
        and wanted.version in (None, row.version)
        and wanted.origin in (None, row.origin)
        and wanted.start in (None, row.start)
        and (wanted.longer is None or (row.run_ms is not None and row.run_ms > 1000 * wanted.longer))
        and (wanted.ended is None or (row.finished_at is not None and row.finished_at >= wanted.ended))
        and (wanted.text is None or wanted.text.lower() in searched(row))
    )


def searched(row: Any) -> str:
    message = json.loads(row.error)["message"] if row.error else ""
    parts = (row.id, row.idempotency_key, row.concurrency_key, row.error_type, message)
    return "\n".join(part or "" for part in parts).lower()


def moved(name: str, value: Any, now: float) -> dict[str, Any]:
    """A filter of GIVEN, in which times are so long ago."""
    return {name: now - value if name in ("since", "ended") else value}


def test_every_pair_of_filters_finds_what_fits_page_by_page(many: Store) -> None:
    def look(conn: Connection, now: float) -> None:
        rows = list(conn.execute(table.select().order_by(table.c.id.desc())))
        tags = {(row.tag, row.run_id) for row in conn.execute(run_tags.select())}
        # what fits both of two is what fits each
        fitting = {
            (name, value): {row.id for row in rows if fits(row, tags, Filter(**moved(name, value, now)))}
            for name, values in GIVEN.items()
            for value in values
        }
        empty = 0
        for (one, values), (other, others) in itertools.combinations(GIVEN.items(), 2):
            for value, another in itertools.product(values, others):
                given = moved(one, value, now) | moved(other, another, now)
                wanted = Filter(limit=40, **given)
                expected = sorted(fitting[one, value] & fitting[other, another], reverse=True)
                assert pages(conn, now, wanted, 120) == expected[:120], given
                assert runs.count(conn, now, wanted, 1000) == min(1000, len(expected)), given
                empty += not expected
        assert empty, "what nothing fits is among them"

    many.read(look)


def pages(conn: Connection, now: float, wanted: Filter, most: int) -> list[str]:
    """So many, page by page. A page that is not full has looked at all that there are, or says how far."""
    found: list[str] = []
    while True:
        page = runs.search(conn, now, wanted)
        found += [row.id for row in page.rows]
        if page.looked_back_to is not None:
            assert wanted.is_looked_for
            assert len(page.rows) <= wanted.limit
            (oldest,) = conn.execute(table.select().where(table.c.id == page.following))
            assert page.looked_back_to == oldest.created_at
            assert all(row.id >= oldest.id for row in page.rows)
        else:
            assert page.following is None or len(page.rows) == wanted.limit
        if page.following is None or len(found) >= most:
            return found[:most]
        wanted = wanted._replace(cursor=page.following)


def test_a_page_looks_at_so_many_and_says_how_far_back(many: Store) -> None:
    def look(conn: Connection, now: float) -> None:
        page = runs.search(conn, now, Filter(text="order 3999"))
        assert (page.rows, page.looked_back_to is None) == ([], False)
        assert pages(conn, now, Filter(text="order 3999"), 10) != []

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
