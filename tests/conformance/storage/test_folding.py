"""SQLite's log is folded into the database by a thread of its own, and not in anybody's commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from coordinator.storage import folding
from coordinator.storage.database import Database
from tests.waiting import eventually

#: More than SQLite lets its log grow by itself.
PAGES = 2000
PAGE = 4096


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{file}")
    database.write_now(lambda conn, now: conn.execute(text("CREATE TABLE notes (n INTEGER PRIMARY KEY, t TEXT)")))
    yield database
    database.close()


def fill(database: Database, writes: int) -> None:
    def add(conn: Connection, now: float) -> None:
        conn.execute(text("INSERT INTO notes (t) VALUES (:t)"), {"t": "x" * (PAGES * PAGE // writes)})

    for _ in range(writes):
        database.write_now(add)


def test_no_commit_folds(database: Database, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "EVERY", 10**9)
    fill(database, 50)
    assert file.stat().st_size < PAGES * PAGE // 2
    assert Path(f"{file}-wal").stat().st_size > PAGES * PAGE


def test_a_thread_folds_after_so_many_writes(database: Database, file: Path) -> None:
    fill(database, 3 * folding.EVERY)
    eventually(lambda: file.stat().st_size > PAGES * PAGE // 2, "the log is folded")
    found = database.read_now(lambda conn, now: conn.scalar(text("SELECT count(*) FROM notes")))
    assert found == 3 * folding.EVERY


def test_one_that_is_closed_folds_no_more(file: Path) -> None:
    folds = folding.Folding(str(file))
    folds.close()
    for _ in range(2 * folding.EVERY):
        folds.wrote()
    assert folds._thread is None
