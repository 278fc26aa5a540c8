"""Failing for good in a real install: the handler in its container, the list, the limit on the whole time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack import Stack, stack, written
from tests.waiting import eventually

pytestmark = pytest.mark.docker

TASKS = """
import time

from samovar import Retry, current_run, task


@task(memory="64m", on_failure="tell", retry=Retry(max_attempts=2, min_delay="100ms", max_delay="100ms"))
def break_down(order: str) -> None:
    raise ValueError(f"no such order: {order}")


@task(memory="64m", on_failure="tell", timeout="1h", total_timeout="3s", retry=Retry(max_attempts=5))
def never_ends() -> None:
    current_run().extend_timeout("1h")
    time.sleep(600)


@task(memory="64m")
def tell(run: dict) -> dict:
    told = {name: run[name] for name in ("task", "status", "payload")}
    return {**told, "error": run["error"]["message"]}
"""


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack() as made:
        made.deploy_path(written(tmp_path_factory.mktemp("failing"), "failing", TASKS))
        yield made


def handled(samovar: Stack, run: str) -> dict[str, Any]:
    """What the handler of a failed run returned."""

    def told() -> list[dict[str, Any]]:
        found = samovar.cli("runs", "list", "--task", "tell", "--status", "completed")["items"]
        return [item for item in found if item["origin"] == {"kind": "failure", "id": run}]

    (only,) = eventually(told, f"the handler of {run}")
    return dict(samovar.cli("runs", "show", only["id"])["result"])


def test_a_run_that_failed_for_good_is_told_listed_and_replayed(samovar: Stack) -> None:
    failed = samovar.finished("break-down", order="A7")
    assert (failed["status"], failed["attempts"], failed["dead_letter"]) == ("failed", 2, True)
    assert handled(samovar, failed["id"]) == {
        "task": "break-down",
        "status": "failed",
        "payload": {"order": "A7"},
        "error": "no such order: A7",
    }
    assert [run["id"] for run in samovar.cli("runs", "list", "--dead-letter")["items"]] == [failed["id"]]
    (again,) = samovar.cli("runs", "replay", "--dead-letter", "--task", "break-down")["items"]
    assert samovar.cli("runs", "wait", again["replay"], code=1)["status"] == "failed"
    assert [run["id"] for run in samovar.cli("runs", "list", "--dead-letter")["items"]] == [again["replay"]]
    samovar.cli("runs", "dismiss", again["replay"])
    assert samovar.cli("runs", "list", "--dead-letter")["items"] == []


def test_the_whole_time_ends_a_run_that_asks_for_more(samovar: Stack) -> None:
    run = samovar.finished("never-ends")
    assert (run["status"], run["attempts"], run["error"]["reason"]) == ("timed_out", 1, "timeout")
    assert "total_timeout is over" in run["error"]["message"]
    assert handled(samovar, run["id"])["status"] == "timed_out"
