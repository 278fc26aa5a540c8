"""A coordinator is killed between the commit of a batch and its answer: the batch comes again, and counts once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conformance.attempts.joint import batch, item
from tests.ports import free_port
from tests.unit.coordinator.conftest import ADMIN, Api, ok
from tests.waiting import eventually

#: Ends itself where it would answer the end of a run, which is committed by then; once.
_KILLED = """
import os, pathlib, signal, sys
from coordinator.api.fleet import together
real = together._answer
async def answer(core, item, refuse):
    if item.action == "finish" and os.environ.get("KILLED"):
        await item.found
        os.kill(os.getpid(), signal.SIGKILL)
    return await real(core, item, refuse)
together._answer = answer
from coordinator.__main__ import main
sys.exit(main())
"""


@contextmanager
def coordinator(data: Path, killed: str) -> Iterator[tuple[Api, subprocess.Popen[bytes]]]:
    port = free_port()
    keys = {"SAMOVAR_COORDINATOR_ADMIN_KEY": ADMIN, "KILLED": killed}
    command = [sys.executable, "-c", _KILLED, "--data", str(data), "--port", str(port)]
    child = subprocess.Popen(command, env={**os.environ, **keys}, stderr=subprocess.DEVNULL)
    api = Api(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        try:
            return api.admin.get("/readyz").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(ready, "the coordinator is ready")
        yield api, child
    finally:
        api.close()
        child.kill()
        child.wait(30)


def test_killed_between_the_commit_and_the_answer_it_counts_once(tmp_path: Path) -> None:
    line = {"seq": 1, "at": 1.0, "level": "info", "stream": "stdout", "message": "hello"}
    with coordinator(tmp_path / "data", "1") as (api, child):
        api.deploy()
        api.trigger()
        one = api.claim_one()
        items = [
            item(one, "start", start="warm"),
            item(one, "checkpoint", key="k", value=1),
            item(one, "logs", lines=[line]),
            item(one, "finish", outcome="completed", result=7),
        ]
        with pytest.raises(httpx.TransportError):
            batch(api, one, *items)
        assert child.wait(30) == -signal.SIGKILL
    with coordinator(tmp_path / "data", "") as (api, _):
        assert api.run(one["run"])["result"] == 7
        found = batch(api, one, *items)
        # what came before the end is over; the end itself is answered as the first time
        assert [each.status for each in found] == [409, 409, 409, 200]
        assert found[-1].body == {"run": one["run"], "status": "completed"}
        assert len(ok(api.admin.get(f"/api/v1/runs/{one['run']}/logs"))["items"]) == 1
        assert api.run(one["run"])["attempts"] == 1
