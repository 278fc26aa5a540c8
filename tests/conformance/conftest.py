"""The databases that the store is tested on: the same tests, each on both."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text

from coordinator.context import Coordinator
from coordinator.storage.tables import metadata, runs
from tests.conformance.databases import cluster, fresh_database, memory, postgres_binaries
from tests.conformance.store import Store
from tests.unit.coordinator.conftest import Api, serving


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one that SAMOVAR_TEST_POSTGRES names, or a private one."""
    given = os.environ.get("SAMOVAR_TEST_POSTGRES")
    if given:
        yield given
        return
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql, or set SAMOVAR_TEST_POSTGRES to a server's URL")
    with cluster(binaries) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_store(postgres: str) -> Iterator[Store]:
    with fresh_database(postgres) as url:
        store = Store(url)
        store.database.migrate()
        yield store
        store.database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store."""
    if request.param == "sqlite":
        with tempfile.TemporaryDirectory(prefix="samovar-store-", dir=memory()) as directory:
            path = shutil.copyfile(request.getfixturevalue("migrated"), Path(directory) / "coordinator.db")
            store = Store(f"sqlite:///{path}")
            yield store
            store.database.close()
        return
    shared: Store = request.getfixturevalue("postgres_store")
    shared.now = 1_800_000_000.0
    shared.write(_empty)
    yield shared


def _empty(conn: Connection, now: float) -> None:
    tables = list(reversed(metadata.sorted_tables))
    if conn.scalar(select(func.count()).select_from(runs)) > 1000:
        # Every deleted run asks each table that refers to runs, by plans made while those were empty, among what
        # earlier tests left dead: that took from a second to more than the statement timeout.
        conn.execute(text(f"TRUNCATE {', '.join(table.name for table in tables)}"))
        return
    for table in tables:
        conn.execute(table.delete())  # 10 ms, against 45 of TRUNCATE


@pytest.fixture(params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Api, Coordinator]]:
    """A coordinator that answers, on each database."""
    data = tmp_path / "data"
    data.mkdir()
    if request.param == "sqlite":
        with serving(data) as found:
            yield found
        return
    with fresh_database(request.getfixturevalue("postgres")) as url, serving(data, url) as found:
        yield found
