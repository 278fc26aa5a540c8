"""Rows in the likeness of others: a run of each kind, made by the store, and what differs from one to the next."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, select

from coordinator.attempts import attempts as ends
from coordinator.attempts import checkpoints as keeping
from coordinator.history import folding, series
from coordinator.runs import logs
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
from coordinator.storage.values import Stored
from coordinator.wire import AttemptLogLine, ErrorBody, Finish, Retry
from tests.conformance.store import Store

Rows = dict[Table, list[tuple[Any, ...]]]

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
#: Two at a time: there are millions of names to be made.
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]
#: A run of a task has these of its own; all else it has of its kind.
_OF_TASK = ("project", "task", "deployment_id", "version", "queue", "lane")
#: Seconds from now until which what runs is believed to run, and what waits waits.
_LATER = 10 * 86400.0
_PATIENT = frozenset({"lease_until", "due_at"})

#: Type, message, and the project's frames below which it was raised.
ERRORS = [
    ("ValueError", "order {} has no lines", [("orders/lines.py", "read"), ("orders/report.py", "report")]),
    ("KeyError", "'customer-{}'", [("orders/customers.py", "find")]),
    ("httpx.ConnectTimeout", "timed out after 5.0 s", [("orders/shop.py", "fetch"), ("orders/sync.py", "sync")]),
    ("sqlalchemy.exc.OperationalError", "server closed the connection", [("orders/store.py", "save")]),
    ("RuntimeError", "rate limit of the API reached, try again in {} s", [("orders/shop.py", "push")]),
    ("ZeroDivisionError", "division by zero", [("orders/prices.py", "average")]),
    ("UnicodeDecodeError", "'utf-8' codec can't decode byte 0xff in position {}", [("orders/files.py", "parse")]),
    ("AssertionError", "", [("orders/check.py", "check_totals")]),
]
_LINES = [
    ("info", "stdout", None, "reading page {} of 240"),
    ("info", "logging", "orders.sync", "stored 500 rows in {} ms"),
    ("debug", "logging", "orders.store", "SELECT * FROM lines WHERE order_id = {}"),
    ("warning", "logging", "orders.shop", "slow answer: {} ms"),
    ("info", "stdout", None, "order {}: 12 lines, total 1,240.50"),
    ("warning", "stderr", None, "DeprecationWarning: read() of {} is deprecated"),
]


def rows(tables: Sequence[Table]) -> Rows:
    return {table: [] for table in tables}


def identifier(prefix: str, at: float, drawn: random.Random) -> str:
    """As ids.new, of another time."""
    number = int(at * 1000) << 80 | drawn.getrandbits(80)
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])}"


class Template:
    """A row as the store made it; others are like it, at other times and of other lengths."""

    def __init__(self, table: Table, row: dict[str, Any]) -> None:
        self.row = row
        self._place = {column.name: place for place, column in enumerate(table.c)}
        self._values = [row[name] for name in self._place]
        given = [(name, place) for name, place in self._place.items() if row[name] is not None]
        for name, place in given:
            if name in _PATIENT:
                self._values[place] = time.time() + _LATER
        self._times = [place for name, place in given if name.endswith("_at") and name not in _PATIENT]
        self._lengths = [place for name, place in given if name.endswith("_ms")]

    def made(self, shift: float, pace: float, **changed: Any) -> tuple[Any, ...]:
        """In the order of the table's columns."""
        values = self._values.copy()
        for place in self._times:
            values[place] += shift
        for place in self._lengths:
            values[place] *= pace
        for name, value in changed.items():
            values[self._place[name]] = value
        return tuple(values)


@dataclass(frozen=True)
class Kind:
    """A run as the store made it, with what it left."""

    run: Template
    attempts: list[Template]
    waits: list[Template]
    checkpoints: list[Template]

    def add(
        self, into: Rows, base: dict[str, Any], created: float, tags: list[str], drawn: random.Random
    ) -> tuple[str, int]:
        """One more like it, of the task of `base`, triggered at `created`; its id and its last attempt's number."""
        run_id = identifier("run", created, drawn)
        shift = created - self.run.row["created_at"]
        # what a run took differs, from a tenth to ten times
        pace = 10 ** drawn.uniform(-1, 1)
        number, current = 0, None
        for template in self.attempts:
            number, attempt = template.row["number"], identifier("att", created, drawn)
            if self.run.row["current_attempt"] == template.row["id"]:
                current = attempt
            into[attempts].append(template.made(shift, pace, id=attempt, run_id=run_id))
        into[waits] += [template.made(shift, 1.0, run_id=run_id) for template in self.waits]
        into[checkpoints] += [template.made(shift, 1.0, run_id=run_id) for template in self.checkpoints]
        own = {"id": run_id, "tags": json.dumps(tags), "trace_id": f"{drawn.getrandbits(128):032x}"}
        into[runs].append(self.run.made(shift, pace, **base, **own, current_attempt=current))
        into[run_tags] += [(tag, run_id) for tag in tags]
        return run_id, number


def add_lines(into: Rows, run: str, attempt: int, at: float, count: int, *, failed: bool) -> None:
    names = [column.name for column in log_lines.c]
    assert names[:8] == ["run_id", "attempt", "seq", "at", "level", "stream", "logger", "message"], names
    blank: list[Any] = [False if name == "partial" else None for name in names]
    for seq in range(1, count + 1):
        level, stream, logger, message = _LINES[seq % len(_LINES)]
        if failed and seq == count:
            level, stream, logger, message = "error", "logging", "orders", "giving up at {}"
        values = blank.copy()
        values[:8] = (run, attempt, seq, at + 0.01 * seq, level, stream, logger, message.format(seq))
        into[log_lines].append(tuple(values))


def add_audit(into: Rows, at: float, run: str, project: str) -> None:
    entry = {
        "id": run.replace("run_", "aud_"),
        "at": at,
        "action": "run.trigger",
        "done": True,
        "project": project,
        "key_id": "settings:admin",
        "key_name": "settings:admin",
        "role": "admin",
        "address": "127.0.0.1",
        "target": run,
        "detail": "{}",
    }
    into[audit].append(tuple(entry.get(column.name) for column in audit.c))


class Past(NamedTuple):
    """What the observer has made of the few: an hour and a day of a task, and groups of errors."""

    steps: list[Template]
    errors: list[Template]

    def add(self, into: Rows, names: Sequence[str], begin: float, end: float, drawn: random.Random) -> None:
        """Hours and days of each task from `begin` to `end`, and some hundred groups of errors for each project."""
        for rank, name in enumerate(names):
            project, _, task = name.partition("/")
            for template in self.steps:
                size = series.STEPS[template.row["step"]]
                first = series.begin(begin, template.row["step"])
                for at in range(first, int(end) - size, size):
                    # a task that is used little has no row for most hours
                    if drawn.random() < max(10 / (rank + 10), size / 86400):
                        into[history].append(template.made(0.0, 1.0, project=project, task=task, at=at))
        for project in sorted({name.partition("/")[0] for name in names}):
            for template in self.errors * 20:
                seen = drawn.uniform(begin, end)
                own = {"project": project, "fingerprint": f"{drawn.getrandbits(64):016x}"}
                times = {"first_seen": begin, "last_seen": seen, "count": int(10 ** drawn.uniform(0, 4))}
                into[errors].append(template.made(0.0, 1.0, **own, **times))


def past(store: Store) -> Past:
    """Folds all that is told of; after that nothing is left to be folded."""
    while store.write(folding.run_once).more:
        pass

    def read(conn: Connection, now: float) -> Past:
        def of(table: Table) -> list[Template]:
            return [Template(table, dict(row._mapping)) for row in conn.execute(select(table))]

        return Past(list({step.row["step"]: step for step in of(history)}.values()), of(errors))

    return store.read(read)


# ---------------------------------------------------------------- the few that the many are like


def base(store: Store, name: str) -> dict[str, Any]:
    """A queued run of the task, for what is the task's own; it stays where it is, in line."""
    row = store.trigger(name)
    return {column: row._mapping[column] for column in _OF_TASK}


def kinds(store: Store, name: str) -> dict[str, list[Kind]]:
    """Of every kind of seeding.MIX and seeding.UNFINISHED at least one, all of one task."""
    made = {
        # one in ten has checkpoints
        "completed": [*[_completed(store, name)] * 9, _completed(store, name, checkpointed=3)],
        "failed": [_failed(store, name, *error) for error in ERRORS],
        "failed after retries": [_failed(store, name, *error, tries=3) for error in ERRORS[:3]],
        "timed_out": [_timed_out(store, name)],
        "canceled": [_kind(store, store.cancel(store.trigger(name).id).run.id)],
        "expired": [_expired(store, name)],
        "delayed": [_kind(store, store.trigger(name, delay=_LATER).id)],
        "waiting": [_kind(store, store.suspended("sleep", name, seconds=_LATER).run.id)],
        "running": [_running(store, name)],
    }
    # last: a claim would take it
    return {**made, "queued": [_kind(store, store.trigger(name).id)]}


def _kind(store: Store, run: str) -> Kind:
    def read(conn: Connection, now: float) -> Kind:
        def of(table: Table) -> list[dict[str, Any]]:
            column = table.c.id if table is runs else table.c.run_id
            return [dict(row._mapping) for row in conn.execute(select(table).where(column == run))]

        (row,) = of(runs)
        left = ([Template(table, each) for each in of(table)] for table in (attempts, waits, checkpoints))
        return Kind(Template(runs, row), *left)

    return store.read(read)


def _completed(store: Store, name: str, checkpointed: int = 0) -> Kind:
    claimed = store.started(name)
    for number in range(checkpointed):
        value = Stored(json.dumps({"page": number}), None, 12)
        store.write(keeping.put, claimed.attempt, claimed.token, f"page-{number}", value)
    line = AttemptLogLine(seq=0, at=store.now, level="info", stream="stdout", message="one")
    store.write(logs.append, claimed.attempt, claimed.token, [line])
    store.now += 1.5
    store.complete(claimed, {"rows": 1240, "file": "reports/2026-01.csv"}, peak_memory_bytes=48 * 1024**2)
    return _kind(store, claimed.run.id)


def _failed(
    store: Store, name: str, kind: str, message: str, frames: Sequence[tuple[str, str]], tries: int = 1
) -> Kind:
    shown = message.format(4711)
    traceback = "\n".join(
        [
            "Traceback (most recent call last):",
            *(f'  File "/app/{file}", line 12, in {function}\n    work()' for file, function in frames),
            f"{kind}: {shown}",
        ]
    )
    error = ErrorBody(type=kind, message=shown, traceback=traceback, reason="exception")
    run = store.trigger(name).id
    for number in range(tries):
        claimed = store.claim_one()
        store.start(claimed)
        store.now += 2.5
        # the exception itself says when to come again, whatever the task's policy is
        again = Retry(allowed=number < tries - 1, after=1.0 if number < tries - 1 else None)
        body = Finish(token=claimed.token, outcome="failed", error=error, retry=again)
        store.write(ends.finish, claimed.attempt, body, Stored(), lambda: 0.0)
        store.now += 2.0
        store.sweep()
    return _kind(store, run)


def _running(store: Store, name: str) -> Kind:
    claimed = store.started(name)
    kind = _kind(store, claimed.run.id)
    # nobody renews its lease
    store.complete(claimed)
    return kind


def _timed_out(store: Store, name: str) -> Kind:
    claimed = store.started(name)
    store.now += 30.0 - 1
    store.fail(claimed, "timeout", Retry(allowed=False))
    return _kind(store, claimed.run.id)


def _expired(store: Store, name: str) -> Kind:
    run = store.trigger(name, ttl=5.0).id
    store.now += 6.0
    store.sweep()
    return _kind(store, run)
