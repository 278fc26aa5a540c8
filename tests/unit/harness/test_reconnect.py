"""A sidecar that dies, comes back, or does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from samovar import wire

from tests.unit.harness.listener import TICKET, Container
from tests.waiting import eventually

Make = Callable[..., Container]

STEPS = """
import os, time
from samovar import task, checkpoint
@task
def steps(gate: str = ""):
    made = []
    def make(n):
        made.append(n)
        return n
    for n in range(5):
        checkpoint(f"k{n}", make, n)
        while n == 2 and gate and not os.path.exists(gate): time.sleep(0.01)
    return made
@task
def ok(): return 1
"""


def test_unanswered_requests_are_sent_again_after_a_reconnect(container: Make) -> None:
    one = container(STEPS)
    one.sidecar.silent.add(wire.CHECKPOINT_PUT)
    one.assign("steps")
    first = eventually(lambda: one.sidecar.of(wire.CHECKPOINT_PUT), "the first checkpoint")[0]
    one.sidecar.stop()
    one.sidecar.silent.clear()
    one.sidecar.start()
    finish = one.finish()
    assert finish["result"] == [0, 1, 2, 3, 4], "no step ran twice"
    assert one.sidecar.checkpoints == {f"k{n}": n for n in range(5)}
    hellos = one.sidecar.of(wire.HELLO)
    assert [hello["attempt"] for hello in hellos] == [None, "a1"]
    again = [put for put in one.sidecar.of(wire.CHECKPOINT_PUT) if put["key"] == "k0"]
    assert again == [first, first], "the same request, under the same number"


def test_a_finish_that_was_not_answered_is_sent_again(container: Make) -> None:
    one = container(STEPS)
    one.sidecar.silent.add(wire.FINISH)
    one.assign("ok")
    first = eventually(lambda: one.sidecar.of(wire.FINISH), "the finish")[0]
    one.sidecar.stop()
    one.sidecar.silent.clear()
    one.sidecar.start()
    eventually(lambda: len(one.sidecar.of(wire.FINISH)) == 2, "the finish again")
    assert one.sidecar.of(wire.FINISH)[1] == first
    assert one.run("ok", "a2")["result"] == 1


def test_a_run_goes_on_while_there_is_no_sidecar(container: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = container(STEPS)
    one.assign("steps", payload={"gate": str(gate)})
    eventually(lambda: "k2" in one.sidecar.checkpoints, "half the way")
    one.sidecar.stop()
    gate.touch()
    one.sidecar.start()
    assert one.finish()["result"] == [0, 1, 2, 3, 4]


def test_an_assignment_said_again_after_a_reconnect_is_not_run_twice(container: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = container(STEPS)
    one.assign("steps", payload={"gate": str(gate)})
    eventually(lambda: "k2" in one.sidecar.checkpoints, "half the way")
    one.sidecar.stop()
    one.sidecar.start()
    one.assign("steps", payload={"gate": str(gate)})
    gate.touch()
    assert one.finish()["result"] == [0, 1, 2, 3, 4]
    assert len(one.sidecar.of(wire.STARTED)) == 1


def test_without_a_sidecar_the_run_and_the_container_end(container: Make, tmp_path: Path) -> None:
    one = container(STEPS, SAMOVAR_DISCONNECT_LIMIT="0.3")
    one.assign("steps", payload={"gate": str(tmp_path / "never")})
    eventually(lambda: "k2" in one.sidecar.checkpoints, "half the way")
    processes = one.children()
    one.sidecar.stop()
    assert one.process.wait(20) == 2
    assert one.process.stderr is not None
    assert b"no sidecar at" in one.process.stderr.read()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "every process gone")


def test_a_sidecar_that_refuses_the_container_ends_it(container: Make) -> None:
    one = container(STEPS)
    one.sidecar.answer = lambda request: (
        wire.refusal(request, "protocol", "too old") if request["type"] == wire.HELLO else None
    )
    # the first hello may have been answered already: have another one
    one.sidecar.stop()
    one.sidecar.start()
    assert one.process.wait(20) == 2


SEARCH = """
import re
from samovar import task
@task
def search(plant: bool) -> bool:
    planted = "5e1fd3a0" * (4 if plant else 1)
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        areas = [line.split()[0].split("-") for line in maps if line.split()[1].startswith("rw")]
        for start, end in areas:
            memory.seek(int(start, 16))
            if re.search(rb"(5e1fd3a0){4}", memory.read(int(end, 16) - int(start, 16))):
                return True
    return False
"""


def test_the_ticket_is_shown_again_and_is_not_in_the_memory_of_user_code(container: Make) -> None:
    one = container(SEARCH)
    assert TICKET == "5e1fd3a0" * 4
    assert one.run("search", payload={"plant": True})["result"] is True
    one.sidecar.stop()
    one.sidecar.start()
    eventually(lambda: len(one.sidecar.of(wire.HELLO)) == 2, "another hello")
    assert [hello["ticket"] for hello in one.sidecar.of(wire.HELLO)] == [None, TICKET]
    assert one.run("search", "a2", payload={"plant": False})["result"] is False


def test_user_code_begins_when_the_first_hello_is_answered(container: Make, tmp_path: Path) -> None:
    """Until then it could be the first to connect itself."""
    begun = tmp_path / "begun"
    one = container(f"open({str(begun)!r}, 'w').close()", silent=True)
    eventually(lambda: one.sidecar.of(wire.HELLO), "a hello")
    one.sidecar.stop()
    one.sidecar.start()
    eventually(lambda: len(one.sidecar.of(wire.HELLO)) == 2, "another hello")
    assert not begun.exists()
    assert one.children() == []
    one.sidecar.silent.clear()
    one.sidecar.stop()
    one.sidecar.start()
    eventually(begun.exists, "the project to be imported")
