"""Queues in a real install: a batch that is held to one run at a time, and changed live while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack import stack, written
from tests.waiting import eventually

pytestmark = pytest.mark.docker

TASK = """
import os, time
from samovar import Queue, task

SHARED = Queue("shared", concurrency=1)


@task(queue=SHARED, memory="64m", mounts={"ledger": "/ledger"}, concurrency_key="who.name")
def hold(n: int, who: dict) -> int:
    me = f"/ledger/{n}"
    with open(me, "x"):
        others = [name for name in os.listdir("/ledger") if name != str(n)]
        while os.path.exists("/ledger/wait"):
            time.sleep(0.02)
    os.remove(me)
    return len([name for name in others if name.isdigit()])
"""


def test_a_batch_is_held_to_its_queue_and_changed_live(tmp_path: Path) -> None:
    with stack() as samovar:
        samovar.deploy_path(written(tmp_path, "queued", TASK))
        wait = samovar.ledger / "wait"
        wait.touch()
        with samovar.client() as client:
            items = [{"n": n, "who": {"name": f"k{n % 2}"}} for n in range(4)]
            made = client.batch_trigger("hold", items, idempotency_key="once")
            eventually((samovar.ledger / "0").exists, "the first run to hold")
            why = samovar.cli("runs", "why", made[3].id)
            assert (why["reason"], why["occupied"], why["limit"]) == ("queue_limit", 1, 1)
            # behind the other run of its key; two keys' second runs, triggered at one instant, have no order
            assert why["position"] in (1, 2)
            assert why["concurrency_key"] == "k1"
            samovar.cli("queues", "pause", "shared")
            wait.unlink()
            made[0].wait(60)
            assert samovar.cli("runs", "why", made[1].id)["reason"] == "paused"
            (state,) = samovar.cli("queues", "list")["items"]
            assert (state["running"], state["queued"], state["paused"]) == (0, 3, True)
            samovar.cli("queues", "resume", "shared")
            # nobody ever found another run of the queue beside it
            assert [run.result(120) for run in made] == [0, 0, 0, 0]
            again = client.batch_trigger("hold", items, idempotency_key="once")
            assert [run.id for run in again] == [run.id for run in made]
