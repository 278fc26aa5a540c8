"""The log of a run with those below it: by time, each line once, whatever is written between two pages."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import Connection, event

from coordinator.attempts.claims import Claimed
from coordinator.foundation.errors import Invalid
from coordinator.runs import logs, merged_logs
from coordinator.runs.log_search import Wanted
from coordinator.runs.merged_logs import MOST_RUNS, Merged, Places
from coordinator.wire import AttemptLogLine
from tests.conformance.store import MIB, Store, task_entry


def child(store: Store, parent: Claimed, key: str = "t", count: int = 1) -> list[Claimed]:
    store.wait(parent, "batch_trigger", key, "greet", items=[{"payload": {}} for _ in range(count)])
    made = [store.claim_one() for _ in range(count)]
    for claimed in made:
        store.start(claimed)
    return made


def write(store: Store, claimed: Claimed, *lines: tuple[int, float, str], level: str = "info") -> None:
    some = [
        AttemptLogLine(seq=seq, at=at, level=level, stream="stdout", message=message) for seq, at, message in lines
    ]
    store.write(logs.append, claimed.attempt, claimed.token, some)


def look(store: Store, run: str, places: Places | None = None, wanted: Any = None, **given: Any) -> Merged:
    def read(conn: Connection, now: float) -> Merged:
        family = [row.id for row in merged_logs.family(conn, now, run).runs]
        return merged_logs.read(conn, now, family, wanted or Wanted(), places, **given)

    return store.read(read)


def told(found: Merged) -> list[str]:
    return [row.message for row in found.lines]


@pytest.fixture
def parent(store: Store) -> Claimed:
    store.deploy(task_entry("greet", memory=32 * MIB))
    return store.started()


def test_lines_of_all_are_one_log_by_their_times(store: Store, parent: Claimed) -> None:
    (first, second) = child(store, parent, count=2)
    (below,) = child(store, first)
    write(store, parent, (1, 1.0, "p1"), (2, 5.0, "p2"), (3, 9.0, "p3"))
    write(store, first, (1, 2.0, "a1"), (2, 6.0, "a2"))
    write(store, below, (1, 3.0, "b1"), (2, 4.0, "b2"), (3, 8.0, "b3"))
    write(store, second, (1, 7.0, "c1"), (2, 2.5, "c2: its clock was set back"), level="error")
    run = parent.run.id
    whole = look(store, run)
    assert told(whole) == ["p1", "a1", "b1", "b2", "p2", "a2", "c1", "c2: its clock was set back", "b3", "p3"]
    assert {row.run_id for row in whole.lines} == {claimed.run.id for claimed in (parent, first, second, below)}
    assert (whole.next, whole.cut_short) == (None, False)
    assert told(look(store, run, wanted=Wanted(level="error"))) == told(whole)[6:8]
    assert told(look(store, run, wanted=Wanted(text="2"))) == ["c2: its clock was set back", "b2", "p2", "a2"]
    assert told(look(store, first.run.id)) == ["a1", "b1", "b2", "a2", "b3"], "of one below it, its own"
    assert told(look(store, run, limit=3, backwards=True)) == ["a2", "b3", "p3"]


def test_what_comes_later_comes_with_the_cursor_of_what_was_last(store: Store, parent: Claimed) -> None:
    (first,) = child(store, parent)
    write(store, parent, (1, 10.0, "p1"))
    for backwards in (False, True):
        found = look(store, parent.run.id, backwards=backwards)
        assert (told(found), found.next) == (["p1"], None)
        text = merged_logs.write_places(found.last)
        assert merged_logs.parse_places(text) == found.last
        assert told(look(store, parent.run.id, found.last)) == []
    (second,) = child(store, parent, "later")
    write(store, first, (1, 3.0, "late, and earlier than all"))
    write(store, second, (1, 11.0, "of a run that was not there"))
    write(store, parent, (2, 12.0, "p2"))
    fresh = ["late, and earlier than all", "of a run that was not there", "p2"]
    assert told(look(store, parent.run.id, found.last)) == fresh


@pytest.mark.parametrize("seed", range(4))
def test_no_line_is_lost_or_doubled_between_pages(store: Store, parent: Claimed, seed: int) -> None:
    rng = random.Random(seed)
    family = [parent, *child(store, parent, count=3)]
    family += child(store, family[1], count=2)
    written: dict[str, list[str]] = {claimed.run.id: [] for claimed in family}
    clock = dict.fromkeys(written, 0.0)

    def some(claimed: Claimed, most: int) -> None:
        of, lines = written[claimed.run.id], []
        for _ in range(rng.randrange(most)):
            clock[claimed.run.id] += rng.choice([0.0, 0.1, 5.0])
            of.append(f"{'needle' if rng.random() < 0.1 else 'hay'} {len(of)}")
            lines.append((len(of), clock[claimed.run.id], of[-1]))
        write(store, claimed, *lines)

    for claimed in family:
        some(claimed, 150)
    before = {run: list(lines) for run, lines in written.items()}

    def all_of(wanted: Wanted, *, backwards: bool, grows: bool) -> dict[str, list[str]]:
        seen: dict[str, list[str]] = {run: [] for run in written}
        places: Places | None = None
        while True:
            limit = rng.choice([1, 7, 60])
            # also where a page may look at few lines only
            found = look(
                store, parent.run.id, places, wanted, limit=limit, backwards=backwards, most=rng.choice([9, 20_000])
            )
            assert len(found.lines) <= limit
            assert found.cut_short or not found.next or len(found.lines) == limit
            order = [(row.at, row.run_id) for row in found.lines]
            assert grows or order == sorted(order)
            for row in found.lines[:: -1 if backwards else 1]:
                seen[row.run_id].append(row.message)
            if found.next is None:
                return seen
            places = merged_logs.parse_places(merged_logs.write_places(found.next))
            if grows and rng.random() < 0.3:
                some(rng.choice(family), 20)

    assert all_of(Wanted(), backwards=False, grows=False) == before
    needles = {run: [one for one in lines if "needle" in one] for run, lines in before.items()}
    assert all_of(Wanted(text="NEEDLE"), backwards=False, grows=False) == needles
    assert all_of(Wanted(), backwards=True, grows=False) == {run: lines[::-1] for run, lines in before.items()}
    assert all_of(Wanted(), backwards=False, grows=True) == written
    # from the end: what was written before the first page is there once
    before = {run: list(lines) for run, lines in written.items()}
    assert all_of(Wanted(), backwards=True, grows=True) == {run: lines[::-1] for run, lines in before.items()}


def test_only_so_many_runs_are_in_it_and_few_statements_read_them(store: Store, parent: Claimed) -> None:
    made = child(store, parent, count=MOST_RUNS + 3)
    for number, claimed in enumerate(made):
        write(store, claimed, *[(seq, float(seq), f"{number}") for seq in range(1, 40)])
    found = store.read(merged_logs.family, parent.run.id)
    assert [row.id for row in found.runs] == [parent.run.id, *sorted(c.run.id for c in made)[: MOST_RUNS - 1]]
    assert found.left_out
    sent: list[str] = []

    def count(conn: Connection, now: float) -> Merged:
        def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
            sent.append(statement)

        event.listen(conn, "before_cursor_execute", note)
        family = [row.id for row in merged_logs.family(conn, now, parent.run.id).runs]
        return merged_logs.read(conn, now, family, limit=500)

    assert len(store.read(count).lines) == 500
    assert len(sent) <= 9, sent
    chain = [made[0]]
    for _ in range(4):
        chain += child(store, chain[-1])
    near = store.read(merged_logs.family, chain[0].run.id)
    assert [row.id for row in near.runs] == [claimed.run.id for claimed in chain[:4]]
    assert near.left_out, "what is further below"
    assert not store.read(merged_logs.family, chain[3].run.id).left_out


@pytest.mark.parametrize("text", ["1.5", "run_a.1", "run_a.1.2~", "run_a.1.2~x", "run_A.1.2", "run_a.9999999999.1"])
def test_what_is_no_cursor_of_it_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="no cursor of a log with children"):
        merged_logs.parse_places(text)
    with pytest.raises(Invalid):
        merged_logs.parse_places("~".join(["run_a.1.2"] * (MOST_RUNS + 1)))
