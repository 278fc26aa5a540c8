"""Looking through a run's lines: what fits, in what order, and how much one request reads."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import text

from coordinator.runs import log_search, logs
from coordinator.runs.log_search import EVERY, Found, Wanted
from coordinator.wire import AttemptLogLine
from tests.conformance.store import Store

#: (attempt, seq, level, stream, logger, message)
LINES = [
    (1, 1, "info", "stdout", None, "Connecting to the STRASSE database"),
    (1, 2, "debug", "logging", "app.db", "select 1"),
    (1, 3, "warning", "stderr", None, "slow: 100% of 5_000 ms"),
    (1, 4, "error", "logging", "app", "no answer\nTraceback: Größe"),
    (2, 1, "info", "stdout", None, "connecting again"),
    (2, 2, "critical", "logging", "application", "out of Straße"),
    (2, 3, "loud", "logging", "app.db.pool", "of an unknown level"),
]


def line(seq: int, message: str = "", **values: Any) -> AttemptLogLine:
    return AttemptLogLine(
        **{"seq": seq, "at": 1.0, "level": "info", "stream": "stdout", "message": message, **values}
    )


@pytest.fixture
def run(store: Store) -> str:
    """A run with LINES, the second of its attempts under way."""
    store.deploy()
    claimed = store.started()
    for number in (1, 2):
        some = [
            line(seq, message, level=level, stream=stream, logger=logger)
            for attempt, seq, level, stream, logger, message in LINES
            if attempt == number
        ]
        store.write(logs.append, claimed.attempt, claimed.token, some)
        if number == 1:
            store.lose(claimed)
            claimed = store.claim_one()
    return str(claimed.run.id)


def places(found: Found) -> list[tuple[int, int]]:
    return [(row.attempt, row.seq) for row in found.lines]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EVERY, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]),
        (Wanted(level="debug"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]),
        (Wanted(level="info"), [(1, 1), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]),
        (Wanted(level="warning"), [(1, 3), (1, 4), (2, 2)]),
        (Wanted(level="critical"), [(2, 2)]),
        (Wanted(text="CONNECTING"), [(1, 1), (2, 1)]),
        # upper and lower case of every script, and no character that means something else
        (Wanted(text="strasse"), [(1, 1), (2, 2)]),
        (Wanted(text="GRÖSSE"), [(1, 4)]),
        (Wanted(text="100%"), [(1, 3)]),
        (Wanted(text="5_0"), [(1, 3)]),
        (Wanted(text="_"), [(1, 3)]),
        (Wanted(attempt=2), [(2, 1), (2, 2), (2, 3)]),
        (Wanted(attempt=3), []),
        (Wanted(stream="stderr"), [(1, 3)]),
        (Wanted(logger="app"), [(1, 2), (1, 4), (2, 3)]),
        (Wanted(logger="app.db"), [(1, 2), (2, 3)]),
        (Wanted(level="info", attempt=2, stream="logging", logger="app", text="LEVEL"), [(2, 3)]),
    ],
)
def test_lines_that_fit_are_found_from_either_end(
    store: Store, run: str, wanted: Wanted, expected: list[tuple[int, int]]
) -> None:
    found = store.read(log_search.search, run, wanted)
    assert (places(found), found.next, found.cut_short) == (expected, None, False)
    back = store.read(log_search.search, run, wanted, backwards=True)
    assert (places(back), back.next, back.cut_short) == (expected, None, False)
    # and one by one, each once
    for backwards in (False, True):
        seen: list[tuple[int, int]] = []
        place: logs.Cursor | None = None
        for _ in range(len(LINES) + 2):
            page = store.read(log_search.search, run, wanted, place, 1, backwards=backwards)
            seen += places(page)
            place = page.next
            if place is None:
                break
        assert place is None
        assert seen == (expected[::-1] if backwards else expected)


def test_a_line_is_shown_among_its_neighbours(store: Store, run: str) -> None:
    def shown(place: tuple[int, int], lines: int) -> list[tuple[int, int]]:
        return [(row.attempt, row.seq) for row in store.read(log_search.around, run, place, lines)]

    assert shown((1, 4), 2) == [(1, 2), (1, 3), (1, 4), (2, 1), (2, 2)]
    assert shown((1, 1), 1) == [(1, 1), (1, 2)]
    assert shown((2, 3), 1) == [(2, 2), (2, 3)]
    # one that was replaced by a later line
    assert shown((1, 5), 1) == [(1, 4), (2, 1)]


def test_one_request_looks_at_so_many_lines_and_says_where_to_go_on(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    lines = [line(seq, "needle" if seq == 2450 else "hay") for seq in range(1, 2501)]
    store.write(logs.append, claimed.attempt, claimed.token, lines)
    wanted, run = Wanted(text="needle"), claimed.run.id
    place: logs.Cursor | None = None
    pages = []
    while not pages or place is not None:
        page = store.read(log_search.search, run, wanted, place, 10, most=1200, seconds=60)
        pages.append((places(page), page.looked_at, page.cut_short))
        place = page.next
    assert pages == [([], 1200, True), ([], 1200, True), ([(1, 2450)], 100, False)]
    # a page that is full is not one that was cut short
    page = store.read(log_search.search, run, Wanted(text="hay"), None, 1200, most=1200, seconds=60)
    assert (len(page.lines), page.next, page.cut_short) == (1200, (1, 1200), False)


def test_one_request_looks_for_so_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "_STEP", 1000)
    store.deploy()
    claimed = store.started()
    store.write(logs.append, claimed.attempt, claimed.token, [line(seq) for seq in range(1, 5001)])
    ticks = itertools.count(0.0, 0.06)
    page = store.read(
        log_search.search, claimed.run.id, Wanted(text="needle"), seconds=0.15, clock=lambda: next(ticks)
    )
    # it looks at the clock after every step
    assert (page.looked_at, page.next, page.cut_short) == (3000, (1, 3000), True)


def test_what_was_looked_at_is_where_later_lines_begin(store: Store, run: str) -> None:
    found = store.read(log_search.search, run, Wanted(text="nowhere"))
    assert (found.lines, found.next, found.last, found.looked_at) == ([], None, (2, 3), 7)
    assert store.read(log_search.search, run, EVERY, found.last).lines == []
    empty = store.read(log_search.search, store.trigger().id)
    assert (empty.lines, empty.next, empty.last) == ([], None, None)


def test_a_page_begins_at_its_cursor_by_the_key(store: Store, run: str) -> None:
    """Deep in a long run a page costs what it costs at the beginning: nothing before the cursor is read."""
    plan_of = "EXPLAIN QUERY PLAN " if store.database.session is None else "EXPLAIN "
    for backwards in (False, True):
        query = log_search._lines(log_search._of_run(run, None), (2, 1), None, 10, backwards)

        def plan(conn: Any, now: float, query: Any = query) -> str:
            if conn.dialect.name == "postgresql":
                # of seven lines the planner would read all
                for other in ("seqscan", "bitmapscan", "sort"):
                    conn.execute(text(f"SET LOCAL enable_{other} = off"))
            compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
            return "\n".join(str(row) for row in conn.execute(text(plan_of + str(compiled))))

        shown = store.read(plan)
        if store.database.session is None:
            assert "(attempt,seq)>(?,?)" in shown or "(attempt,seq)<(?,?)" in shown, shown
            assert "TEMP B-TREE" not in shown
        else:
            condition = next(part for part in shown.splitlines() if "Index Cond" in part)
            assert "ROW(attempt, seq)" in condition
            assert "Sort" not in shown


@pytest.mark.parametrize("wanted", [Wanted(text="NEEDLES"), Wanted(level="error"), Wanted(logger="app"), EVERY])
@pytest.mark.parametrize("backwards", [False, True])
def test_what_is_left_out_by_the_database_and_what_is_not_are_the_same(
    store: Store, wanted: Wanted, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps and pages that end anywhere: each line that fits is found once, in its order."""
    monkeypatch.setattr(log_search, "_STEP", 70)
    monkeypatch.setattr(log_search, "_TAKEN", 30)
    store.deploy()
    claimed = store.started()
    levels = ("info", "error", "debug", "odd")
    # the last one has a letter that is an s in upper case, and none of ASCII's
    texts = ("hay", "needles", "NEEDLES \u00df", "sewing", "needle\u017f")
    lines = [
        # as if one in seven had been replaced
        line(seq, texts[seq % 5], level=levels[seq % 4], logger=("app", "app.x", "apple", None)[seq // 3 % 4])
        for seq in range(1, 500)
        if seq % 7
    ]
    store.write(logs.append, claimed.attempt, claimed.token, lines)
    run, fits = claimed.run.id, log_search.matcher(wanted)
    expected = [(row.attempt, row.seq) for row in store.read(logs.read, run, limit=1000) if fits(row)]
    assert expected
    for limit in (1, 29, 30, 31, 1000):
        seen: list[tuple[int, int]] = []
        place: logs.Cursor | None = None
        looked_at = 0
        while True:
            page = store.read(log_search.search, run, wanted, place, limit, backwards=backwards, seconds=60)
            assert len(page.lines) <= limit
            seen = places(page) + seen if backwards else seen + places(page)
            looked_at += page.looked_at
            place = page.next
            if place is None:
                break
        assert seen == expected
        assert looked_at >= len(lines)
