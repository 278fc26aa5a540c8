"""What the pages of a run cost, whatever the run has been through."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from coordinator.runs import history
from coordinator.storage.tables import attempts
from tests.conformance.store import MIB, queue, task_entry
from tests.unit.coordinator.conftest import Api, ok, serving
from tests.unit.coordinator.dashboard.test_hunger import die
from tests.unit.coordinator.dashboard.test_site import asked_for_data, browser, counted, undisturbed

MOST = 12
RETRY = {"max_attempts": 2, "factor": 1, "min_delay": 0, "max_delay": 0, "jitter": False, "oom_memory": 1024 * MIB}


def claimed(api: Api, run: str) -> dict[str, Any]:
    """The assignment of that run; others that come before it go on."""
    while (one := api.claim_one())["run"] != run:
        pass
    ok(api.attempt(one, "start", start="cold"))
    return one


def tried(api: Api) -> str:
    """In a queue with every limit there is: it has triggered others, taken checkpoints, and run out of memory."""
    run = api.trigger("orders/limited", concurrency_key="k")["id"]
    one = claimed(api, run)
    for number in range(3):
        spec = {"payload": {}, "options": {}, "detached": True}
        ok(api.attempt(one, "wait", key=f"child {number}", kind="trigger", name="greet", spec=spec))
    ok(api.attempt(one, "wait", key="nap", kind="sleep", spec={"seconds": 0.001}))
    die(api, one)
    return str(run)


def suspended(api: Api) -> str:
    one = claimed(api, api.trigger("other/greet")["id"])
    ok(api.attempt(one, "wait", key="ask", kind="token", spec={"timeout": 3600}))
    ok(api.attempt(one, "finish", outcome="waiting", waits=["ask"]))
    return str(one["run"])


def test_no_page_of_a_run_takes_many_statements(
    tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so that more than are shown are there, and counted
    monkeypatch.setattr(history, "TRACE_CHILDREN", 3)
    (tmp_path / "data").mkdir()
    shutil.copyfile(migrated, tmp_path / "data" / "coordinator.db")
    with serving(tmp_path / "data") as (api, core), browser(api) as client:
        undisturbed(core)
        limits = queue("q", concurrency=50, per_key=50, rate={"limit": 2, "period": 3600.0})
        tasks = [task_entry("limited", queue=limits, retry=RETRY), task_entry("greet", retry=RETRY)]
        for project in ("orders", "other"):
            api.deploy(*tasks, project=project)
        waits = suspended(api)
        ended = tried(api)
        die(api, claimed(api, ended))
        again = tried(api)
        rated = api.trigger("orders/limited", concurrency_key="other")["id"]
        late = api.trigger("orders/greet", delay="1h")["id"]

        def long_in_line(conn: Connection, now: float) -> None:
            conn.execute(update(attempts).values(queued_ms=5000.0))

        core.database.write_now(long_in_line)
        states = {run: api.run(run)["status"] for run in (waits, ended, again, rated, late)}
        assert list(states.values()) == ["waiting", "failed", "queued", "queued", "delayed"]
        costs = {}
        for run in states:
            for page in ("", "/logs", "/checkpoints", "/replay"):
                path = f"/runs/{run}{page}"
                client.get(path)  # who is signed in is known then
                with counted(core) as sent:
                    answer = client.get(path)
                assert answer.status_code == 200, path
                costs[path] = asked_for_data(sent)
        assert "Attempt 1" in client.get(f"/runs/{again}").text
        assert any("FROM holds" in one for one in costs[f"/runs/{again}"]), "what held it is asked for"
        much = {path: sent for path, sent in costs.items() if len(sent) > MOST}
        assert not much, {path: [one[:90] for one in sent] for path, sent in much.items()}
