"""The database that pages are measured on: what is in it is right in itself, and there is one of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, inspect, select

from bench import pages
from bench.__main__ import main
from bench.postgres import database
from bench.seeding import MIX, UNFINISHED, Places, Sizes, counted, seed
from coordinator.runs import log_search
from coordinator.storage.tables import attempts, log_lines, metadata, run_tags, runs
from tests.conformance.databases import postgres_binaries
from tests.conformance.store import Store

SIZES = Sizes(1_500, 3_000, 30)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Places]]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'coordinator.db'}"
        yield url, seed(url, SIZES)
        return
    if postgres_binaries() is None:
        pytest.skip("no PostgreSQL")
    with database() as url:
        yield url, seed(url, SIZES)


@pytest.fixture
def store(filled: tuple[str, Places]) -> Iterator[Store]:
    made = Store(filled[0])
    made.now = time.time()
    yield made
    made.database.close()


def test_there_is_one_of_each_in_the_mix_that_is_said(store: Store, filled: tuple[str, Places]) -> None:
    def read(conn: Connection, now: float) -> Counter[str]:
        return Counter(conn.scalars(select(runs.c.status)))

    found = store.read(read)
    # and a few that the others are like
    assert SIZES.runs <= found.total() <= SIZES.runs + 80
    assert set(found) == {kind.partition(" ")[0] for kind in (*MIX, *UNFINISHED)}
    assert 0.85 < found["completed"] / found.total() < 0.95
    assert counted(filled[0])["log_lines"] == pytest.approx(SIZES.lines, rel=0.25)


def test_places_are_what_they_are_called(store: Store, filled: tuple[str, Places]) -> None:
    _, places = filled

    def read(conn: Connection, now: float) -> tuple[set[str], int, int, int]:
        quiet = set(conn.scalars(select(runs.c.status).where(runs.c.task == places.quiet)))
        lines = conn.scalars(select(log_lines.c.seq).where(log_lines.c.run_id == places.loud)).all()
        tries = conn.scalars(select(attempts.c.id).where(attempts.c.run_id == places.run)).all()
        tagged = conn.scalars(select(run_tags.c.run_id).where(run_tags.c.tag == places.common_tag)).all()
        return quiet, len(lines), len(tries), len(tagged)

    quiet, lines, tries, tagged = store.read(read)
    assert "completed" in quiet
    assert not quiet & {"failed", "timed_out"}
    assert (lines, tries) == (300, 3)
    assert tagged > 100
    found = store.read(log_search.search, places.run, log_search.Wanted(level="error"))
    assert [row.attempt for row in found.lines] in ([3], [])


def test_the_coordinator_finds_nothing_to_put_right(store: Store) -> None:
    assert store.unlisted() == []
    assert store.stuck() == []
    before = store.read(_statuses)
    store.sweep()
    # a sweep ends what nobody believes in: none of it
    assert store.read(_statuses) == before
    # and what is in line can be claimed
    assert len(store.claim(most=5, memory=2**40)) == 5


def test_every_index_is_there_again(store: Store) -> None:
    inspected = inspect(store.database._reader)
    for table in metadata.sorted_tables:
        wanted = {index.name for index in table.indexes}
        there = {index["name"] for index in inspected.get_indexes(table.name)}
        assert wanted <= there, table.name


def test_each_pair_of_filters_is_asked_for_once() -> None:
    asked = list(pages.pairs())
    assert len(asked) == len(set(asked)) == 175
    assert "/runs?status=failed&task={quiet}" in asked


def test_pages_are_measured_against_a_real_coordinator() -> None:
    times, work, sizes = pages._measured("SQLite", 2, pages.LEAST)
    measured = {series.name: len(series.samples) for series in times.samovar}
    assert measured["/runs/{loud}/logs?text=nowhere"] == 2
    assert measured["/runs with two filters: 175 pairs"] == 175
    assert [target.limit for target in times.targets] == [100.0, 200.0, 100.0, 200.0]
    assert all(min(series.samples) > 0 for series in (*times.samovar, *work.samovar, *sizes.samovar))
    # of the pages one is still to come
    assert not [note for note in times.notes if note.startswith("not measured")]


def test_too_little_is_refused() -> None:
    with pytest.raises(SystemExit, match="--tasks 2: give at least 4"):
        main(["pages", "--quick", "--tasks", "2"])


def _statuses(conn: Connection, now: float) -> Counter[str]:
    return Counter(conn.scalars(select(runs.c.status)))
