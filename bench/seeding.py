"""A database as it is after a long time, made in minutes: a few runs of each kind by the store, and many like them.

The few are made by the functions that make them in production, so that every column is as it is there. The many
differ in id, task, time, tags and what they wrote; they go in by COPY, or by SQLite's executemany, into tables
whose indexes are made afterwards. Which runs there are is drawn from a seed: the same on both databases.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, create_engine, select, text

from bench import likeness
from bench.likeness import Kind, Past, Rows
from coordinator.storage.dialect import parse_url
from coordinator.storage.tables import (
    attempts,
    audit,
    checkpoints,
    errors,
    history,
    log_lines,
    run_tags,
    runs,
    waits,
)
from tests.conformance.store import MIB, Store, queue, task_entry

#: How the runs have ended, or not, in parts of all.
MIX = {
    "completed": 0.885,
    "failed": 0.06,
    "failed after retries": 0.015,
    "timed_out": 0.02,
    "canceled": 0.015,
    "expired": 0.004,
}
#: Of those that have not ended there are so many at most, however many runs there are: a part of all, and a number.
UNFINISHED = {"queued": (0.01, 5_000), "running": (0.001, 100), "waiting": (0.002, 500), "delayed": (0.001, 200)}
#: Days over which runs are spread; those that have not ended are of the last hour.
DAYS = 20
_TASKS_OF_PROJECT = 25
_CHUNK = 20_000
_TABLES = (runs, attempts, run_tags, waits, checkpoints, log_lines, audit, history, errors)
#: Lines of the run that wrote most, in parts of all, and at most.
_LOUD, _LOUDEST = 0.1, 100_000


class Sizes(NamedTuple):
    runs: int = 100_000
    lines: int = 500_000
    tasks: int = 50


class Places(NamedTuple):
    """What there is to look at. `quiet` is the busiest task of those that have never failed."""

    run: str
    loud: str
    project: str
    small: str
    busy: str
    quiet: str
    rare: str
    common_tag: str
    rare_tag: str


def seed(url: str, sizes: Sizes, number: int = 7) -> Places:
    """Fills the empty database at `url`."""
    store = Store(url)
    store.now = time.time() - 3600
    try:
        store.database.migrate()
        names = _deploy(store, sizes.tasks)
        kinds = likeness.kinds(store, names[0])
        bases = {name: likeness.base(store, name) for name in names}
        past = likeness.past(store)
    finally:
        store.database.close()
    made = _Making(sizes, names, kinds, bases, past, random.Random(number))
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as conn:
            _drop_indexes(conn)
        _write(engine, made.chunks())
        with engine.begin() as conn:
            _make_indexes(conn)
        if engine.dialect.name == "postgresql":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
                # as autovacuum does by and by
                conn.execute(text("VACUUM ANALYZE"))
    finally:
        engine.dispose()
    return made.places()


def _deploy(store: Store, tasks: int) -> list[str]:
    """`project/task` of each; the newest version of a project is its second."""
    names = []
    for first in range(0, tasks, _TASKS_OF_PROJECT):
        project = f"project-{first // _TASKS_OF_PROJECT}"
        entries = [
            task_entry(
                f"task-{number}",
                memory=64 * MIB,
                retry={"max_attempts": 3, "factor": 2, "min_delay": 1, "max_delay": 60, "jitter": False},
                # every fifth has a queue with a limit
                **({"queue": queue(f"queue-{number}", concurrency=5)} if number % 5 == 0 else {}),
            )
            for number in range(first, min(first + _TASKS_OF_PROJECT, tasks))
        ]
        for _ in range(2):
            store.deploy(*entries, project=project)
        names += [f"{project}/{entry['id']}" for entry in entries]
    return names


class _Making:
    """Draws runs, oldest first."""

    def __init__(
        self,
        sizes: Sizes,
        names: Sequence[str],
        kinds: dict[str, list[Kind]],
        bases: dict[str, dict[str, Any]],
        past: Past,
        drawn: random.Random,
    ) -> None:
        self._sizes, self._names, self._kinds, self._bases, self._random = sizes, names, kinds, bases, drawn
        self._past = past
        # a few tasks have most of the runs, as everywhere
        weights = [1 / (rank + 1) for rank in range(len(names))]
        self._weights = list(itertools.accumulate(weights))
        #: Every fourth task never fails; the most used of them is the first of a long search in vain.
        self._quiet = set(names[1::4])
        self._failed = self._loud = ""
        self._audited = 0

    def places(self) -> Places:
        busy, quiet = self._names[0], self._names[1]
        rare = next(name for name in reversed(self._names) if name not in self._quiet)
        return Places(
            run=self._failed,
            loud=self._loud,
            project=busy.partition("/")[0],
            small=rare.partition("/")[0],
            busy=busy.partition("/")[2],
            quiet=quiet.partition("/")[2],
            rare=rare.partition("/")[2],
            common_tag="team-0",
            rare_tag="quarterly",
        )

    def chunks(self) -> Iterator[Rows]:
        """Rows by table, so many that they are no burden."""
        now = time.time()
        rows = likeness.rows(_TABLES)
        self._past.add(rows, self._names, now - DAYS * 86400, now - 2 * 86400, self._random)
        for number, (status, created) in enumerate(self._order(now)):
            self._add(rows, status, created, number)
            if len(rows[runs]) >= _CHUNK:
                yield rows
                rows = likeness.rows(_TABLES)
        yield rows

    def _order(self, now: float) -> Iterator[tuple[str, float]]:
        """The kind of each run, and when it was triggered."""
        live = [
            kind
            for kind, (part, most) in UNFINISHED.items()
            for _ in range(max(1, min(round(part * self._sizes.runs), most)))
        ]
        self._random.shuffle(live)
        ended = max(self._sizes.runs - len(live), 1)
        kinds, parts = list(MIX), list(itertools.accumulate(MIX.values()))
        begin, end = now - DAYS * 86400, now - 3700
        for number in range(ended):
            yield self._random.choices(kinds, cum_weights=parts)[0], begin + (end - begin) * number / ended
        for number, kind in enumerate(live):
            yield kind, end + 3600 * number / len(live)

    def _add(self, rows: Rows, status: str, created: float, number: int) -> None:
        drawn = self._random
        name = drawn.choices(self._names, cum_weights=self._weights)[0]
        if name in self._quiet and status not in UNFINISHED:
            status = "completed"
        kind = drawn.choice(self._kinds[status])
        tags = [f"team-{min(int(drawn.expovariate(0.7)), 9)}"] if drawn.random() < 0.4 else []
        if drawn.random() < 0.0005:
            tags.append("quarterly")
        run, last = kind.add(rows, self._bases[name], created, tags, drawn)
        if status == "failed after retries":
            self._failed = run
        if drawn.random() < 0.02:
            likeness.add_audit(rows, created, run, name.partition("/")[0])
        if last:
            self._write_lines(rows, run, last, created, status, number)

    def _write_lines(self, rows: Rows, run: str, attempt: int, created: float, status: str, number: int) -> None:
        """Of the newest runs each writes some twenty lines, and one of them very many."""
        loud = min(round(self._sizes.lines * _LOUD), _LOUDEST)
        writers = min(max((self._sizes.lines - loud) // 20, 1), self._sizes.runs)
        if number < self._sizes.runs - writers:
            return
        count = self._random.randint(1, 39)
        if not self._loud and status == "completed":
            self._loud, count = run, loud
        likeness.add_lines(rows, run, attempt, created, count, failed=status.startswith("failed"))


# ---------------------------------------------------------------- into the tables


def _drop_indexes(conn: Connection) -> None:
    for table in _TABLES:
        for index in table.indexes:
            index.drop(conn)


def _make_indexes(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
    for table in _TABLES:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(conn)


def _write(engine: Engine, chunks: Iterator[Rows]) -> None:
    raw = engine.raw_connection()
    try:
        driver: Any = raw.driver_connection
        if isinstance(driver, sqlite3.Connection):
            # nothing has to outlive a power cut before it is there; the coordinator sets all this for itself
            for pragma in ("synchronous=OFF", "journal_mode=OFF", "foreign_keys=OFF", "cache_size=-262144"):
                driver.execute(f"PRAGMA {pragma}")
            for rows in chunks:
                for table, some in rows.items():
                    places = ", ".join("?" * len(table.c))
                    driver.executemany(f"INSERT INTO {table.name} ({_columns(table)}) VALUES ({places})", some)
                driver.commit()
            return
        with driver.cursor() as cursor:
            # what refers to what is right as it was made
            cursor.execute("SET session_replication_role = replica")
            for rows in chunks:
                for table, some in rows.items():
                    with cursor.copy(f"COPY {table.name} ({_columns(table)}) FROM STDIN") as copy:
                        for row in some:
                            copy.write_row(row)
        driver.commit()
    finally:
        raw.close()


def _columns(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.c)


def counted(url: str) -> dict[str, int]:
    """How many rows each table of the seed has."""
    engine = create_engine(parse_url(url))
    try:
        with engine.connect() as conn:
            found = {}
            for table in _TABLES:
                found[table.name] = int(conn.scalar(select(text("count(*)")).select_from(table)) or 0)
            return found
    finally:
        engine.dispose()
