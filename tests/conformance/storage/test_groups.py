"""Writes that are committed together: each is answered on its own, after the commit, whatever its neighbours do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select, text

from coordinator.foundation import turns
from coordinator.foundation.again import Again, Job
from coordinator.foundation.errors import Conflict, StorageUnavailable
from coordinator.storage import groups
from coordinator.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'c.db'}")
    database.write_now(lambda conn, now: conn.execute(text("CREATE TABLE notes (n INTEGER PRIMARY KEY)")))
    yield database
    database.close()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock decides how many are taken: only their number does."""
    monkeypatch.setattr(groups, "_BUDGET", 1e9)
    monkeypatch.setattr(groups, "_SLOW", 1e9)


def add(conn: Connection, now: float, n: int) -> int:
    conn.execute(text("INSERT INTO notes VALUES (:n)"), {"n": n})
    return n


def add_and_refuse(conn: Connection, now: float, n: int) -> int:
    add(conn, now, n)
    raise Conflict(f"not {n}")


def stored(database: Database) -> list[int]:
    return database.read_now(lambda conn, now: list(conn.scalars(text("SELECT n FROM notes ORDER BY n"))))


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """What ends the writer's transactions, while the block runs."""
    ends: list[str] = []

    def committed(conn: Connection) -> None:
        ends.append("commit")

    def rolled_back(conn: Connection) -> None:
        ends.append("rollback")

    event.listen(database._writer, "commit", committed)
    event.listen(database._writer, "rollback", rolled_back)
    yield ends
    event.remove(database._writer, "commit", committed)
    event.remove(database._writer, "rollback", rolled_back)


def together(database: Database, *calls: tuple[Any, ...], line: Callable[[int], str] = lambda n: "") -> list[Any]:
    """What came of calls that all wait before the writer takes the first of them."""
    begun, hold = threading.Event(), threading.Event()

    def busy(conn: Connection, now: float) -> None:
        begun.set()
        assert hold.wait(30)

    async def one(number: int, function: Any, *arguments: Any) -> Any:
        turns.lane.set(line(number))
        return await database.write(function, *arguments)

    async def main() -> list[Any]:
        # one that is as many as a group takes, so that those behind it begin a group of their own
        first = asyncio.create_task(database.write(busy))
        await asyncio.to_thread(begun.wait, 30)
        work = [asyncio.create_task(one(number, *call)) for number, call in enumerate(calls)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hold.set()
        await first
        return await asyncio.gather(*work, return_exceptions=True)

    return asyncio.run(main())


def test_a_hundred_writes_that_wait_are_a_few_commits(database: Database) -> None:
    with counted(database) as ends:
        assert together(database, *((add, n) for n in range(100))) == list(range(100))
    assert stored(database) == list(range(100))
    assert ends == ["commit"] * 4  # 32 at most, with the one that they waited for


def test_one_that_raises_leaves_its_neighbours_as_they_are(database: Database) -> None:
    found = together(database, (add, 1), (add_and_refuse, 2), (add, 3), (add, 3), (add, 4))
    assert (found[0], found[2], found[4]) == (1, 3, 4)
    assert isinstance(found[1], Conflict)
    assert "UNIQUE" in str(found[3])
    assert stored(database) == [1, 3, 4]


def test_one_that_is_first_and_raises_costs_no_savepoint_and_the_next_begin_anew(database: Database) -> None:
    async def main() -> None:
        with pytest.raises(Conflict):
            await database.write(add_and_refuse, 1)
        await database.write(add, 2)

    statements: list[str] = []
    event.listen(database._writer, "before_cursor_execute", lambda *given: statements.append(given[2]))
    asyncio.run(main())
    assert stored(database) == [2]
    assert [each.split()[0] for each in statements] == ["BEGIN", "INSERT", "BEGIN", "INSERT"]


def test_nobody_is_answered_before_the_commit(database: Database) -> None:
    """Whoever hears of its own write finds it, by a connection of its own, in the database."""
    seen: list[bool] = []

    def look(future: Any, n: int) -> None:
        if future.exception() is None:
            seen.append(n in stored(database))

    real = turns.Turns.put

    def put(self: turns.Turns, job: turns.Job, line: str | None = None) -> Any:
        job.future.add_done_callback(lambda future, n=len(seen): look(future, future.result() or 0))
        return real(self, job, line)

    with pytest.MonkeyPatch.context() as patch:
        together(database, (add, 0))
        patch.setattr(turns.Turns, "put", put)
        found = together(database, *((add, n) for n in range(1, 50)))
    assert found == list(range(1, 50))
    assert len(seen) == 50
    assert all(seen)


def test_a_commit_that_fails_fails_each_or_none(database: Database) -> None:
    """A group whose commit fails is done once more, one by one: each hears what came of its own."""
    left = [1]

    def full(conn: Connection) -> None:
        if left and conn.scalar(select(func.count()).select_from(text("notes"))) > 1:
            left.pop()
            raise StorageUnavailable("the disk is full")

    event.listen(database._writer, "commit", full)
    with counted(database) as ends:
        found = together(database, (add, 1), (add_and_refuse, 2), (add, 3))
    assert (found[0], found[2]) == (1, 3)
    assert isinstance(found[1], Conflict)
    assert stored(database) == [1, 3]
    assert ends == ["commit", "commit", "rollback", "commit"]  # each in a transaction of its own


def test_a_commit_that_keeps_failing_is_told_to_all(database: Database) -> None:
    def full(conn: Connection) -> None:
        if conn.scalar(select(func.count()).select_from(text("notes"))):
            raise StorageUnavailable("the disk is full")

    event.listen(database._writer, "commit", full)
    found = together(database, (add, 1), (add, 2))
    event.remove(database._writer, "commit", full)
    assert all(isinstance(each, StorageUnavailable) for each in found)
    assert stored(database) == []
    with pytest.raises(StorageUnavailable):
        asyncio.run(database.check())


def test_a_statement_that_ends_the_transaction_fails_for_itself_alone(database: Database) -> None:
    def end_it(conn: Connection, now: float) -> None:
        conn.exec_driver_sql("ROLLBACK")
        raise Conflict("gone")

    found = together(database, (add, 1), (end_it,), (add, 2))
    assert (found[0], found[2]) == (1, 2)
    assert isinstance(found[1], Exception)
    assert stored(database) == [1, 2]


def test_work_outside_of_the_transaction_is_done_between_two_groups(database: Database) -> None:
    done: list[str] = []

    def needs(conn: Connection, now: float, n: int) -> int:
        add(conn, now, n)
        if not done:
            raise Again([Job("orders", lambda: done.append("work"))])
        return n

    assert together(database, (add, 1), (needs, 2), (add, 3)) == [1, 2, 3]
    assert stored(database) == [1, 2, 3]
    assert done == ["work"]


def test_a_flood_of_one_project_leaves_the_others_their_turns_within_a_group(database: Database) -> None:
    order: list[int] = []

    def note(conn: Connection, now: float, n: int) -> None:
        order.append(n)

    # the first sixty are one project's, then come one of another and one of ours
    lines = {60: "project:other", 61: turns.OWN}
    together(database, *((note, n) for n in range(62)), line=lambda n: lines.get(n, "project:flood"))
    assert order.index(61) <= 1
    assert order.index(60) <= 3


def test_what_took_long_lately_begins_a_group_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_SLOW", 1e-9)
    with counted(database) as ends:
        together(database, (add, 0), (add, 1), (add, 2))
    assert ends == ["commit"] * 3  # of the first one nothing was known
