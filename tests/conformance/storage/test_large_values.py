"""Values that are large are kept beside the database, whoever writes them, and are written in turns."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from coordinator.context import Coordinator
from coordinator.foundation import turns
from coordinator.foundation.limits import INLINE, KIB, MAX_TOLD
from coordinator.storage.blobs import Blobs
from coordinator.storage.tables import checkpoints, runs
from coordinator.storage.values import Values, encode
from tests.conformance.attempts.joint import batch, item
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, ok
from tests.waiting import eventually

Served = tuple[Api, Coordinator]
#: More than a row takes, and less than what has always been large.
LARGE = "x" * (100 * KIB)
HANDLER = {"type": "object", "properties": {"run": {"type": "object"}}, "required": ["run"]}


def test_payloads_checkpoints_and_results_of_100_kib_are_in_no_row(served: Served) -> None:
    api, core = served
    api.deploy()
    assignment = api.started(payload={"text": LARGE})
    assert assignment["payload"] == {"text": LARGE}
    stored = ok(api.attempt(assignment, "checkpoint", key="k", value=LARGE))
    assert stored == {"stored": True, "value": LARGE}
    assert ok(api.attempt(assignment, "checkpoint", key="k", value="another")) == {"stored": False, "value": LARGE}
    ok(api.attempt(assignment, "finish", outcome="completed", result=LARGE))
    run = api.run(assignment["run"])
    assert (run["payload"], run["result"]) == ({"text": LARGE}, LARGE)

    def rows(conn: Connection, now: float) -> list[Any]:
        run = conn.execute(select(runs)).one()
        point = conn.execute(select(checkpoints)).one()
        return [
            (run.payload, run.payload_blob is not None),
            (run.result, run.result_blob is not None),
            (point.value, point.value_blob is not None),
        ]

    assert core.database.read_now(rows) == [(None, True)] * 3


def test_numbers_that_are_longer_as_we_write_them_go_alone(served: Served) -> None:
    api, _ = served
    api.deploy()
    one = api.started()
    numbers = b"[" + b",".join([b"1e15"] * 6000) + b"]"
    assert len(numbers) < INLINE < encode([1e15] * 6000, "x").size
    head, body = item(one, "checkpoint", key="k", value=None)
    end_head, end = item(one, "finish", outcome="completed", result=None)
    found = batch(
        api,
        one,
        (head, body.replace(b'"value": null', b'"value": ' + numbers)),
        (end_head, end.replace(b'"result": null', b'"result": ' + numbers)),
    )
    assert [each.alone for each in found] == [True, True]
    assert ok(api.attempt(one, "checkpoint", key="k", value=[1e15] * 6000))["stored"] is True
    ok(api.attempt(one, "finish", outcome="completed", result=[1e15] * 6000))


@pytest.mark.parametrize("way", ["alone", "together"])
def test_a_handler_is_told_of_a_payload_that_is_kept_beside(served: Served, way: str) -> None:
    api, _ = served
    api.deploy(task_entry("greet", on_failure="notify"), task_entry("notify", HANDLER))
    failed = {"outcome": "failed", "error": {"type": "E", "message": "no"}, "retry": {"allowed": False}}
    one = api.started(payload={"text": LARGE})
    if way == "together":
        (answer,) = batch(api, one, item(one, "finish", **failed))
        assert answer.alone  # it reads a file, which is not done while others wait
    ok(api.attempt(one, "finish", **failed))
    told = api.claim_one()
    assert told["task"] == "notify"
    assert told["payload"]["run"]["payload"] == {"text": LARGE}
    ok(api.attempt(told, "start", start="cold"))
    ok(api.attempt(told, "finish", outcome="completed", result=None))
    other = api.started(payload={"text": "x" * (MAX_TOLD + 1)})
    ok(api.attempt(other, "finish", **failed))
    assert api.claim_one()["payload"]["run"]["payload"] is None


def test_of_one_line_one_blob_is_written_at_a_time(tmp_path: Path) -> None:
    values, hold = Values(Blobs(tmp_path)), threading.Event()
    begun: list[str] = []

    class Slow(Blobs):
        def put(self, data: bytes) -> str:
            begun.append(data[:1].decode())
            assert hold.wait(30)
            return super().put(data)

    values._blobs = Slow(tmp_path)

    async def put(line: str, n: int) -> None:
        turns.lane.set(line)
        await values.keep(f"{line}{n}".encode())

    async def main() -> None:
        tasks = [asyncio.create_task(put("hog", n)) for n in range(10)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(put("other", 0)))
        await asyncio.to_thread(eventually, lambda: "o" in begun, "the other one is written")
        assert begun.count("h") == 1
        hold.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(begun) == 11
    values.close()
