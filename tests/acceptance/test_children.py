"""Child runs in a real install: made once, waited for without a container, canceled with their parent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.waiting import eventually

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("waits")
        yield made


def children(samovar: Stack, parent: str) -> list[dict[str, Any]]:
    return list(samovar.cli("runs", "list", "--parent", parent)["items"])


def result(samovar: Stack, task: str, **payload: Any) -> Any:
    run = samovar.finished(task, **payload)
    assert run["status"] == "completed", run["error"]
    return run["result"]


def test_a_child_gives_its_result_or_why_there_is_none(samovar: Stack) -> None:
    run = samovar.finished("asks", n=5)
    assert run["result"] == {"result": 25}
    (child,) = children(samovar, run["id"])
    assert (child["task"], child["version"], child["trace_id"]) == ("square", run["version"], run["trace_id"])
    assert (child["root"], child["origin"]) == (run["id"], {"kind": "run", "id": run["id"]})
    failed = result(samovar, "asks", n=-1)
    assert failed == {"type": "ValueError", "message": "-1 is negative", "status": "failed"}


def test_a_payload_that_does_not_fit_is_an_exception_in_the_parent(samovar: Stack) -> None:
    run = samovar.finished("refused")
    assert run["result"] == {"fields": [{"path": "n", "message": "'three' is not an integer"}]}
    assert children(samovar, run["id"]) == []


def test_a_batch_comes_back_in_order(samovar: Stack) -> None:
    assert result(samovar, "gathers", count=12) == ["ValueError", *(n * n for n in range(11))]


def test_children_that_were_only_triggered_are_waited_for_later(samovar: Stack) -> None:
    run = samovar.finished("begins", n=7)
    assert (run["result"]["result"], run["result"]["rest"]) == (49, [0, 1, 4])
    made = children(samovar, run["id"])
    assert sorted(child["tags"] for child in made) == [["begun"], ["many"], ["many"], ["many"]]


def test_an_async_parent_waits_for_many_at_once(samovar: Stack) -> None:
    assert result(samovar, "at-once", n=5) == [n * n for n in range(5)]


def test_three_deep_in_a_queue_of_one(samovar: Stack) -> None:
    found = result(samovar, "nested", depth=3)
    assert len(set(found)) == 4


def test_a_task_that_triggers_itself_without_end_comes_to_one(samovar: Stack) -> None:
    run = samovar.finished("endless", timeout=170)
    assert run["status"] == "failed"
    assert "runs above this one" in run["error"]["message"]


def test_results_too_large_for_one_line_come_one_by_one(samovar: Stack) -> None:
    assert result(samovar, "gathers-large", count=4, size=6 * 1024**2) == [6 * 1024**2] * 4


def test_a_cancel_takes_the_children_with_it_but_those_that_are_detached(samovar: Stack) -> None:
    run = samovar.cli("trigger", "parent")["id"]

    def all_wait() -> bool:
        family = [samovar.cli("runs", "show", run), *children(samovar, run)]
        return len(family) == 5 and all(member["status"] == "waiting" for member in family)

    eventually(all_wait, "parent and children to wait")
    samovar.cli("runs", "cancel", run)
    left = {child["id"]: child["status"] for child in children(samovar, run)}
    assert sorted(left.values()) == ["canceled"] * 3 + ["waiting"]
    samovar.cli("runs", "cancel", next(id for id, state in left.items() if state == "waiting"))
