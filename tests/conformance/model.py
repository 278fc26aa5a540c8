"""What has been acknowledged to users and hosts, and what the rows have to be because of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, select

from coordinator.attempts.attempts import Ended
from coordinator.attempts.claims import Claimed
from coordinator.foundation.limits import LEASE
from coordinator.storage.tables import attempts, checkpoints, runs, waits
from coordinator.wire import FINAL, Finish
from tests.conformance.store import Store

LIVE = ("claimed", "running")


_RUN = (
    "id, task, status, queue, concurrency_key, current_attempt, lane, due_at, finished_at, "
    "payload, result, origin, origin_id, parent, parent_key"
)
_WAIT = "run_id, key, status, awaited, due_at, runs, event"


class Rows:
    """Every row that the model looks at, in one reading."""

    def __init__(self, conn: Connection, now: float) -> None:
        self.now = now

        def every(columns: str, table: str) -> list[Any]:
            # plain SQL: this is done after every step, and to compile a statement takes longer than to run it
            return list(conn.exec_driver_sql(f"SELECT {columns} FROM {table}"))

        self.runs = {row.id: row for row in every(_RUN, "runs")}
        self.attempts = {row.id: row for row in every("id, run_id, status, token, lease_until, error", "attempts")}
        self.waits = {(row.run_id, row.key): row for row in every(_WAIT, "waits")}
        self.ticks = every("run_id", "ticks")
        self.facts = every("run_id, number, outcome, status", "facts")
        self.lanes = {row.id: row for row in every("id, rank, opens_at", "lanes")}


def everything(conn: Connection, now: float) -> list[Any]:
    """All that user code may change, to be compared."""
    tables = (runs, attempts, waits, checkpoints)
    return [sorted(map(tuple, conn.execute(select(table))), key=repr) for table in tables]


class Model:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.limit = 2
        self.paused = False
        #: Runs that somebody was told of, and the one of each idempotency key.
        self.acknowledged: set[str] = set()
        self._by_key: dict[tuple[str, str], str] = {}
        self._canceled: set[str] = set()
        #: How each run was first seen to have ended.
        self._ends: dict[str, tuple[str, str | None, float]] = {}
        self._values: dict[tuple[str, str], Any] = {}
        self._tokens: dict[tuple[str, str], str] = {}
        self._events: Counter[tuple[str, int]] = Counter()
        self._numbers: dict[str, int] = {}
        #: When each live attempt was last renewed, as its host knows.
        self._renewed: dict[str, float] = {}
        self._rows: Rows | None = None

    def rows(self) -> Rows:
        """As they are now; read again only after a write."""
        if self._rows is None or self._rows.now != self._store.now:
            self._rows = self._store.read(Rows)
        return self._rows

    def changed(self) -> None:
        self._rows = None

    # ------------------------------------------------------------ what was said

    def acknowledge(self, run: str, task: str = "", key: str | None = None) -> None:
        self.acknowledged.add(run)
        if key is None:
            return
        known = self._by_key.get((task, key), run)
        if known != run:
            # a key is free again where its run ended without having been taken, and nowhere else
            self.changed()
            taken = any(attempt.run_id == known for attempt in self.rows().attempts.values())
            assert not taken, f"the idempotency key {key} made two runs"
            assert self.rows().runs[known].status in FINAL, f"the idempotency key {key} was taken from {known}"
        self._by_key[task, key] = run

    def asked_to_cancel(self, run: str) -> None:
        self._canceled.add(run)

    def sent(self, name: str, n: int) -> None:
        self._events[name, n] += 1

    def completed_token(self, run: str, key: str, value: str) -> None:
        assert (run, key) not in self._tokens, f"the token {key} of {run} was completed twice"
        self._tokens[run, key] = value

    def claimed(self, claimed: Claimed) -> None:
        run = claimed.run.id
        assert run not in self._canceled, f"{run} was canceled, and begins anew"
        assert claimed.token > self._numbers.get(run, 0), f"the token of {run} did not rise"
        self._numbers[run] = claimed.token
        self._renewed[claimed.attempt] = self._store.now

    def heartbeat(self, held: list[Claimed]) -> None:
        for claimed in held:
            if self._renewed.get(claimed.attempt, 0) > self._store.now - LEASE:
                self._renewed[claimed.attempt] = self._store.now

    def ended(self, claimed: Claimed, word: Finish, ended: Ended) -> None:
        if word.outcome == "completed" and not ended.repeated:
            assert ended.status == "completed", f"a result of {ended.run} was taken, and it is {ended.status}"
        self._renewed.pop(claimed.attempt, None)

    def value_of(self, run: str, key: str, value: Any) -> None:
        """A checkpoint or a wait is passed: in every attempt with the same value."""
        known = self._values.setdefault((run, key), value)
        assert known == value, f"{key} of {run} was {known} and is {value}"

    def check_resolved(self, row: Row[Any]) -> None:
        """A wait that its run passes has really happened."""
        rows = self.rows()
        now = self._store.now
        if row.kind == "sleep":
            assert row.due_at <= now, f"{row.key} of {row.run_id} is over too soon"
        elif row.kind in ("token", "event") and row.status == "timed_out":
            assert row.due_at <= now, f"{row.key} of {row.run_id} timed out too soon"
        elif row.kind == "token":
            known = self._tokens.get((row.run_id, row.key))
            # (a completion whose answer nobody heard is not in the model)
            assert known is None or json.loads(row.value) == known, f"{row.key} of {row.run_id}: another value"
        elif row.kind == "event":
            assert json.loads(row.value) == {"n": 1}, f"{row.key} of {row.run_id} took an event that does not fit"
        elif row.kind in ("run", "batch"):
            for child in json.loads(row.runs):
                assert rows.runs[child].status in FINAL, f"{row.key} of {row.run_id} is over, and {child} is not"

    # ------------------------------------------------------------ limits

    def occupied(self) -> set[str]:
        return {row.id for row in self.rows().runs.values() if row.status == "running"}

    def check_claim(self, before: set[str]) -> None:
        """What a claim has started was within every limit, whatever had been there before."""
        rows = self.rows()
        running = [row for row in rows.runs.values() if row.status == "running"]
        new = [row for row in running if row.id not in before]
        shared = [row for row in running if row.queue == "shared"]
        if any(row.queue == "shared" for row in new):
            assert not self.paused, "a claim took from a paused queue"
            assert len(shared) <= self.limit, f"{len(shared)} runs are running in a queue of {self.limit}"
        keyed = Counter(row.concurrency_key for row in running if row.queue == "keyed")
        for row in new:
            if row.queue == "keyed":
                assert keyed[row.concurrency_key] <= 1, f"two runs with the key {row.concurrency_key}"

    # ------------------------------------------------------------ fences

    def is_stale(self, claimed: Claimed) -> bool:
        row = self.rows().attempts[claimed.attempt]
        return row.status not in LIVE or row.lease_until <= self._store.now or row.token != claimed.token

    def check_stale(self, claimed: Claimed) -> None:
        """A write was refused as stale: so it had to be."""
        assert self.is_stale(claimed), f"{claimed.attempt} holds its run, and was refused"

    @contextmanager
    def unchanged_if_stale(self, claimed: Claimed) -> Iterator[None]:
        """An attempt that has lost its run may say what it likes. (Its end counts until the sweep has come by.)"""
        ended = self.rows().attempts[claimed.attempt].status not in LIVE
        before = self._store.read(everything) if ended else None
        yield
        assert before is None or self._store.read(everything) == before, f"{claimed.attempt} wrote after its end"

    # ------------------------------------------------------------ after every step

    def check(self) -> None:
        rows = self.rows()
        lost = self.acknowledged - rows.runs.keys()
        assert not lost, f"acknowledged and gone: {sorted(lost)}"
        live: dict[str, list[Row[Any]]] = {}
        for attempt in rows.attempts.values():
            if attempt.status in LIVE:
                live.setdefault(attempt.run_id, []).append(attempt)
                assert attempt.lease_until <= rows.now + LEASE, f"the lease of {attempt.id} is longer than a lease"
        for run in rows.runs.values():
            self._check_run(rows, run, live.get(run.id, []))
        self._check_hosts(rows)
        self._check_ticks(rows)
        self._check_families(rows)
        self._check_facts(rows)
        taken = Counter((row.run_id, row.event) for row in rows.waits.values() if row.event is not None)
        assert all(count == 1 for count in taken.values()), f"an event was matched twice: {taken}"

    def _check_run(self, rows: Rows, run: Row[Any], live: list[Row[Any]]) -> None:
        if run.status == "running":
            assert [a.id for a in live] == [run.current_attempt], f"{run.id} is running in {len(live)} attempts"
        else:
            assert not live, f"{run.id} is {run.status}, and an attempt of it is live"
        if run.status in FINAL:
            end = (run.status, run.result, run.finished_at)
            assert self._ends.setdefault(run.id, end) == end, f"{run.id} ended twice: {self._ends[run.id]}, {end}"
            assert run.finished_at is not None
        else:
            assert run.id not in self._ends, f"{run.id} had ended, and is {run.status}"
        if run.status == "delayed":
            assert run.due_at is not None, f"{run.id} is delayed until nothing"
        if run.status == "queued":
            lane = rows.lanes.get(run.lane)
            assert lane is not None, f"{run.id} stands in no lane"
            assert lane.rank is not None or lane.opens_at is not None, f"no claim will come to {run.id}"
        if run.status == "waiting":
            self._check_waiting(rows, run)

    def _check_waiting(self, rows: Rows, run: Row[Any]) -> None:
        """Something will wake it: a time, an event or token with a time of its own, a child that has not ended."""
        awaited = [w for w in rows.waits.values() if w.run_id == run.id and w.awaited and w.status == "pending"]
        assert awaited, f"{run.id} waits for nothing"
        for wait in awaited:
            if wait.due_at is not None:
                return
            if wait.runs is not None:
                open_children = [c for c in json.loads(wait.runs) if rows.runs[c].status not in FINAL]
                assert open_children, f"{run.id} waits for children that have all ended"
                return
        raise AssertionError(f"nothing will wake {run.id}")

    def _check_hosts(self, rows: Rows) -> None:
        """What its host renews in time is not taken from it."""
        for name, at in self._renewed.items():
            attempt = rows.attempts[name]
            if at > rows.now - LEASE and attempt.status == "lost":
                message = json.loads(attempt.error)["message"]
                assert "was not heard" not in message, f"{name} was renewed {rows.now - at:g} s ago, and is lost"

    def _check_ticks(self, rows: Rows) -> None:
        made = Counter(run.payload for run in rows.runs.values() if run.task == "minutely")
        assert all(count == 1 for count in made.values()), f"a tick made several runs: {made}"
        told = {tick.run_id for tick in rows.ticks}
        assert len(made) == len(told), f"{len(made)} runs of {len(told)} ticks"

    def _check_facts(self, rows: Rows) -> None:
        """A fact for each end, of an attempt and of a run, whoever made it; and no other."""
        told = Counter((f.run_id, f.number, f.outcome) for f in rows.facts if f.number is not None)
        ended = [(a.run_id, a.token, a.status) for a in rows.attempts.values() if a.status not in LIVE]
        assert told == Counter(ended), f"facts of attempts: {told - Counter(ended)} {Counter(ended) - told}"
        told_runs = Counter((f.run_id, f.status) for f in rows.facts if f.status is not None)
        ended_runs = Counter((run.id, run.status) for run in rows.runs.values() if run.status in FINAL)
        assert told_runs == ended_runs, f"facts of runs: {told_runs - ended_runs} {ended_runs - told_runs}"

    def _check_families(self, rows: Rows) -> None:
        """A child for each place of its parent, a handler for each failure, and no more."""
        handlers = Counter(run.origin_id for run in rows.runs.values() if run.origin == "failure")
        for run in rows.runs.values():
            if run.task == "boss" and run.status in ("failed", "timed_out"):
                assert handlers[run.id] == 1, f"the failure of {run.id} was told {handlers[run.id]} times"
        placed = Counter((run.parent, run.parent_key) for run in rows.runs.values() if run.parent is not None)
        for (parent, key), count in placed.items():
            wait = rows.waits.get((parent, key))
            assert wait is not None, f"{count} children of {parent} under {key}, which it does not know"
            assert len(json.loads(wait.runs)) == count, f"{count} children of {parent} under {key}"
        listeners = Counter(run.origin_id for run in rows.runs.values() if run.task == "listen")
        assert all(count == 1 for count in listeners.values()), f"an event was fanned out twice: {listeners}"

    # ------------------------------------------------------------ at the end

    def unfinished(self) -> set[str]:
        """The statuses of the runs that have not ended."""
        return {row.status for row in self.rows().runs.values()} - FINAL

    def check_nothing_is_left(self) -> None:
        rows = self.rows()
        left = [f"{row.task} {row.id} is {row.status}" for row in rows.runs.values() if row.status not in FINAL]
        assert not left, f"did not come to an end: {left}"
        fitting = sum(count for (name, n), count in self._events.items() if name == "paid" and n >= 1)
        heard = sum(1 for row in rows.runs.values() if row.task == "listen")
        assert heard == fitting, f"{fitting} events made {heard} runs"
        open_waits = [key for key, row in rows.waits.items() if row.status == "pending"]
        assert not open_waits, f"waits of runs that have ended: {open_waits}"
