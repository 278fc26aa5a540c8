"""How long a claim takes by how many runs stand in line: straight at the store, on PostgreSQL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, cast, func, insert, select, text

from bench.figures import Outcome, Series, Target
from bench.postgres import cluster
from coordinator.storage.tables import runs
from tests.conformance.databases import fresh_database
from tests.conformance.store import Store, queue, task_entry

RATIO = 2.0
_FEW = 1_000
_SLOTS = 100_000
_MEMORY = 2**50 // 4


@dataclass(frozen=True)
class Shape:
    """Which runs stand in line: `tasks` tasks, each with `keys` concurrency keys; and who has how many of them."""

    name: str
    tasks: int
    keys: int = 0
    #: All but one of a hundred are the first task's.
    flooded: bool = False


SHAPES = (
    Shape("ten tasks", 10),
    Shape("one task floods", 10, flooded=True),
    Shape("a thousand keys", 1, keys=1000),
)


def claims(count: int, many: int | None = None, shapes: Sequence[Shape] = SHAPES) -> Outcome:
    """`count` claims of each shape with `many` runs in line, against as many with a thousand.

    `many` is a million where there are samples enough to publish.
    """
    many = many or (1_000_000 if count >= 100 else 5_000)
    mine: list[Series] = []
    peers: list[Series] = []
    targets: list[Target] = []
    with cluster() as server:
        for shape in shapes:
            with _filled(server, shape, _FEW) as few, _filled(server, shape, many) as full:
                deep = Series(f"{shape.name}: {many:,} in line", "ms")
                shallow = Series(f"{shape.name}: {_FEW:,} in line", "ms", against=len(mine))
                for _ in range(5):  # each statement's plan is settled after that
                    _claim(few), _claim(full)
                for _ in range(count):
                    shallow.add(_claim(few))
                    deep.add(_claim(full))
            mine.append(deep)
            peers.append(shallow)
            for name, over in (
                ("median", deep.median / shallow.median),
                ("p99", deep.percentile(99) / shallow.percentile(99)),
            ):
                targets.append(Target(f"{shape.name}: {name} over that with {_FEW:,}", over, RATIO, "x"))
    return Outcome("claims", "one claim of one run, on PostgreSQL", mine, peers, targets)


def _claim(store: Store) -> float:
    """Milliseconds of one claim. Its run is ended and another comes into line, so that their number stays."""
    store.now = time.time()
    began = time.perf_counter()
    (claimed,) = store.claim(memory=_MEMORY, slots=_SLOTS)
    took = time.perf_counter() - began
    store.complete(claimed)
    store.trigger(claimed.run.task, concurrency_key=claimed.run.concurrency_key)
    return 1000 * took


@contextlib.contextmanager
def _filled(server: str, shape: Shape, count: int) -> Iterator[Store]:
    """A store with `count` queued runs, made in seconds: one trigger of each kind, the others in their likeness."""
    with fresh_database(server) as url:
        store = Store(url)
        # all that waits was queued before anything is claimed
        store.now = time.time() - 3600
        try:
            store.database.migrate()
            options = {"queue": queue(per_key=1)} if shape.keys else {}
            store.deploy(*(task_entry(f"task-{n}", **options) for n in range(shape.tasks)))
            kinds = [
                store.trigger(f"task-{n}", concurrency_key=f"key-{key}" if shape.keys else None)
                for n in range(shape.tasks)
                for key in range(shape.keys or 1)
            ]
            left = count - len(kinds)
            flood = left - left // 100 if shape.flooded else left // len(kinds)
            rest = left // 100 // (len(kinds) - 1) if shape.flooded else flood
            for n, kind in enumerate(kinds):
                store.write(_multiply, kind.id, flood if n == 0 else rest)
            yield store
        finally:
            store.database.close()


def _multiply(conn: Connection, now: float, run: str, count: int) -> None:
    """`count` more runs like `run`, each queued a moment after the one before."""
    if count <= 0:
        return
    n = func.generate_series(1, count).column_valued("n", joins_implicitly=True)
    changed = {
        "id": func.concat(runs.c.id, "-", func.lpad(cast(n, Text), 8, "0")),
        "created_at": runs.c.created_at + n * 1e-5,
        "queued_at": runs.c.queued_at + n * 1e-5,
        "order_at": runs.c.order_at + n * 1e-5,
    }
    columns = [changed.get(column.name, column) for column in runs.c]
    conn.execute(text("SET LOCAL statement_timeout = 0"))
    rows = select(*columns).where(runs.c.id == run)
    conn.execute(insert(runs).from_select(list(runs.c), rows))
