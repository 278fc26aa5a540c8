"""The statements of a run's way: few, and built once, which takes longer than the database takes to run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from coordinator.attempts import attempts, checkpoints
from coordinator.runs import logs, runs
from coordinator.storage.quota import Quota
from coordinator.storage.values import Stored
from coordinator.wire import AttemptLogLine, Report
from tests.conformance.store import Store

Step = Callable[[], object]


class Watched:
    """What is sent to the database while it watches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Kept, so that no later statement is built where an earlier one stood in memory.
        self.seen: list[Any] = []
        for engine in {store.database._reader, store.database._writer}:
            event.listen(engine, "before_execute", self._note)

    def _note(self, conn: Connection, statement: Any, *rest: Any) -> None:
        self.seen.append(statement)

    def during(self, step: Step) -> list[Any]:
        self.seen = []
        step()
        return self.seen


def way(store: Store, ended: str) -> dict[str, Step]:
    """The steps of one run from its trigger to its end, each of which works on what the one before left."""
    held: list[Any] = []

    def lease() -> tuple[str, int]:
        return held[0].attempt, held[0].token

    def line(seq: int, replaces: int | None = None) -> AttemptLogLine:
        return AttemptLogLine(
            seq=seq, at=1.0, level="info", stream="logging", logger=None, message="a", replaces=replaces
        )

    def claim() -> None:
        held[:] = [store.claim_one()]

    def report() -> None:
        store.write(attempts.report, held[0].attempt, Report(token=held[0].token, progress={"done": 1}))

    def finish() -> None:
        store.complete(held[0]) if ended == "completed" else store.fail(held[0])

    return {
        "trigger": store.trigger,
        "claim": claim,
        "start": lambda: store.start(held[0]),
        "checkpoint": lambda: store.write(checkpoints.put, *lease(), "a", Stored("1", None, 1)),
        "logs": lambda: store.write(logs.append, *lease(), [line(0), line(1, replaces=0)]),
        "report": report,
        "finish": finish,
        "look": lambda: store.read(runs.get, held[0].run.id),
    }


#: So many at the most, the database's own (BEGIN and COMMIT) apart.
MOST = {"trigger": 7, "claim": 15, "start": 3, "checkpoint": 4, "logs": 7, "report": 3, "finish": 6, "look": 1}


@pytest.fixture
def limited(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store that holds projects to what they may have, as the coordinator's does."""
    store.database.limit(Quota(tmp_path, 2**40, 10**6, 10**4, 0))
    yield store
    store.database.limit(None)


@pytest.mark.parametrize("ended", ["completed", "failed"])
def test_a_run_takes_few_statements_which_are_built_once(limited: Store, ended: str) -> None:
    store = limited
    store.deploy()
    first, again = way(store, ended), way(store, ended)
    for step in way(store, ended).values():
        step()  # what is made once for the project and its queue
    watched = Watched(store)
    built = {name: watched.during(step) for name, step in first.items()}
    for name, step in again.items():
        sent = watched.during(step)
        known = {id(statement) for statement in built[name]}
        anew = [str(statement) for statement in sent if id(statement) not in known]
        assert not anew, f"{name}: built for this call"
        assert 0 < len(sent) <= MOST[name], f"{name}: {[str(statement) for statement in sent]}"


def test_the_pages_that_connections_keep_do_not_grow_with_the_database(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'coordinator.db'}")

    def kept(conn: Connection, now: float) -> int:
        return -int(conn.exec_driver_sql("PRAGMA cache_size").scalar_one())  # KiB

    try:
        together = store.write(kept) + store.database._reader.pool.size() * store.read(kept)  # type: ignore[attr-defined]
    finally:
        store.database.close()
    assert 0 < together <= 12 * 1024
