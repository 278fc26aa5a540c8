"""kill -9 of each part while a parent waits for its children: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.stack import Stack, stack
from tests.waiting import eventually


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("waits")
        yield made


def begin(samovar: Stack) -> tuple[str, str]:
    """A parent whose three children each stand before the gate; its id and its book."""
    book = uuid.uuid4().hex[:8]
    run = samovar.cli("trigger", "counts", "--payload", json.dumps({"book": book, "count": 3}))["id"]
    eventually(lambda: sorted(noted(samovar, book)) == ["0", "1", "2"], "the children to begin")
    eventually(lambda: samovar.cli("runs", "show", run)["status"] == "waiting", "the parent to wait")
    return run, book


def noted(samovar: Stack, book: str) -> Counter[str]:
    path = samovar.ledger / book
    return Counter(path.read_text().split()) if path.exists() else Counter()


def complete(samovar: Stack, run: str, book: str) -> None:
    (samovar.ledger / f"{book}.go").touch()
    done = samovar.cli("runs", "wait", run, "--timeout", "120")
    assert (done["status"], done["result"]) == ("completed", [0, 10, 20]), done
    times = noted(samovar, book)
    assert times == Counter({"0": 1, "1": 1, "2": 1, "gathered": 1}), times
    statuses = [a["status"] for a in samovar.cli("runs", "attempts", run)["items"]]
    assert (statuses[0], statuses[-1]) == ("suspended", "completed")
    assert len(samovar.cli("runs", "list", "--parent", run)["items"]) == 3


@pytest.mark.parametrize("part", ["coordinator", "sidecar", "runner"])
def test_a_part_is_killed_while_a_parent_waits(samovar: Stack, part: str) -> None:
    run, book = begin(samovar)
    samovar.kill_part(part)
    complete(samovar, run, book)


def test_a_coordinator_is_killed_as_the_children_end(samovar: Stack) -> None:
    """No pause: the kill meets their ends, and the parent's way back, wherever they are."""
    for _ in range(3):
        run, book = begin(samovar)
        (samovar.ledger / f"{book}.go").touch()
        samovar.kill_part("coordinator")
        complete(samovar, run, book)


def test_everything_is_killed_and_started_again(samovar: Stack) -> None:
    run, book = begin(samovar)
    sleeper = samovar.cli("trigger", "sleeps", "--payload", json.dumps({"book": f"{book}-s", "seconds": 6}))["id"]
    eventually(lambda: samovar.cli("runs", "show", sleeper)["status"] == "waiting", "the other one to wait")
    samovar.kill()
    samovar.up()
    complete(samovar, run, book)
    assert samovar.cli("runs", "wait", sleeper, "--timeout", "60")["status"] == "completed"
    assert noted(samovar, f"{book}-s") == Counter({"before": 1, "after": 1})
