"""kill -9 of each part in the middle of a run: what was checkpointed is never done again."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator

import docker
import pytest

from tests.stack import Stack, stack
from tests.waiting import eventually


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("probe")
        yield made


def noted(samovar: Stack, book: str) -> Counter[str]:
    """How often each step was begun, counted outside of the run."""
    path = samovar.ledger / book
    return Counter(path.read_text().split()) if path.exists() else Counter()


def begin(samovar: Stack, gate: int) -> tuple[str, str]:
    """A five-step run that stands in the middle of step `gate`; its id and its book."""
    book = f"book-{uuid.uuid4().hex[:8]}"
    run = samovar.cli("trigger", "five-steps", "--payload", f'{{"book": "{book}", "gate": {gate}}}')["id"]
    eventually(lambda: noted(samovar, book)[str(gate)], f"step {gate} to be begun")
    return run, book


def complete(samovar: Stack, run: str, book: str, gate: int) -> dict[str, object]:
    """Lets the run go on, and checks what the ledger says when it is done."""
    (samovar.ledger / f"{book}.go").touch()
    done: dict[str, object] = samovar.cli("runs", "wait", run, "--timeout", "120")
    assert done["status"] == "completed", done
    assert done["result"]["values"] == [10, 20, 30, 40, 50]  # type: ignore[index]
    times = noted(samovar, book)
    assert set(times) == {"1", "2", "3", "4", "5"}
    assert all(times[str(n)] == 1 for n in range(1, 6) if n != gate), times
    assert 1 <= times[str(gate)] <= 2, times
    keys = [c["key"] for c in samovar.cli("checkpoints", run)["items"]]
    assert keys == [f"step-{n}" for n in range(1, 6)]
    return done


def no_container_left(samovar: Stack) -> None:
    eventually(lambda: samovar.containers() == [], "the containers to be gone")


@pytest.mark.parametrize("gate", [1, 3, 5])
def test_the_container_is_killed(samovar: Stack, gate: int) -> None:
    run, book = begin(samovar, gate)
    name = samovar.container_of(run)
    client = docker.APIClient(version="auto")
    client.kill(name)
    client.close()
    done = complete(samovar, run, book, gate)
    assert done["attempts"] == 2
    first, _ = samovar.cli("runs", "attempts", run)["items"]
    assert first["error"]["reason"] == "lost"
    assert "137" in first["error"]["message"]
    no_container_left(samovar)


@pytest.mark.parametrize("part", ["runner", "sidecar", "coordinator"])
@pytest.mark.parametrize("gate", [1, 3])
def test_a_part_is_killed(samovar: Stack, part: str, gate: int) -> None:
    run, book = begin(samovar, gate)
    samovar.kill_part(part)
    done = complete(samovar, run, book, gate)
    # the container went on through it: nothing was begun twice
    assert done["attempts"] == 1, samovar.cli("runs", "attempts", run)
    assert noted(samovar, book)[str(gate)] == 1
    no_container_left(samovar)


def test_the_sidecar_is_killed_while_steps_go_by(samovar: Stack) -> None:
    """No gate: the kill meets requests on their way, which have to be sent again."""
    for _ in range(3):
        run, book = begin(samovar, 1)
        (samovar.ledger / f"{book}.go").touch()
        samovar.kill_part("sidecar")
        complete(samovar, run, book, 1)
    no_container_left(samovar)


def test_runner_and_sidecar_are_killed_together(samovar: Stack) -> None:
    run, book = begin(samovar, 3)
    samovar.kill_part("sidecar")
    samovar.kill_part("runner")
    done = complete(samovar, run, book, 3)
    assert done["attempts"] == 1
    no_container_left(samovar)


def test_everything_is_killed_and_started_again(samovar: Stack) -> None:
    """Acknowledged triggers are all there, the running one goes on, the queued ones run."""
    run, book = begin(samovar, 3)
    many = f"many-{uuid.uuid4().hex[:8]}"
    acknowledged = []
    with samovar.client() as client:
        for number in range(40):
            acknowledged.append(client.trigger("count", {"book": many, "number": number}).id)
    samovar.kill()
    samovar.up()
    complete(samovar, run, book, 3)
    results = [samovar.cli("runs", "wait", id, "--timeout", "120") for id in acknowledged]
    assert [r["status"] for r in results] == ["completed"] * 40
    assert [r["result"] for r in results] == [n * n for n in range(40)]
    # every one ran; one that was being executed at the kill may have been begun twice
    assert set(noted(samovar, many)) == {str(n) for n in range(40)}


def test_ctrl_c_leaves_no_container_and_the_run_goes_on_after_it(samovar: Stack) -> None:
    run, book = begin(samovar, 2)
    assert samovar.stop() == 0
    assert samovar.containers() == []
    samovar.up()
    complete(samovar, run, book, 2)
