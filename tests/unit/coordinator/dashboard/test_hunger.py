"""What a run's page says of one that ran out of memory."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.dashboard import hunger
from tests.conformance.store import MIB, task_entry
from tests.unit.coordinator.conftest import Api, ok
from tests.unit.coordinator.dashboard.test_site import browser

RETRY = {"max_attempts": 2, "factor": 2, "min_delay": 0, "max_delay": 0, "jitter": False, "oom_memory": 1024 * MIB}


@pytest.mark.parametrize(
    ("limit", "more", "asked"), [(0, 32, "32m"), (64, 128, "128m"), (100, 256, "256m"), (512, 1024, "1g")]
)
def test_what_is_asked_for_next_is_at_least_twice_as_much(limit: int, more: int, asked: str) -> None:
    assert hunger.larger(limit * MIB) == more * MIB
    assert hunger.asked(more * MIB) == asked


def die(api: Api, one: dict[str, Any] | None = None, **near: object) -> dict[str, Any]:
    """An attempt that takes a checkpoint, says a line and runs out of memory."""
    if one is None:
        one = api.claim_one()
        ok(api.attempt(one, "start", start="cold"))
    ok(api.attempt(one, "checkpoint", key="half <way>", value=1))
    line = {"seq": 1, "at": 1.0, "level": "info", "stream": "stdout", "message": "loading <b>it</b> all"}
    ok(api.attempt(one, "logs", lines=[line]))
    held = {"at_ms": 4000, "memory": 500 * MIB, "scratch": 300 * MIB, "killed": True, **near}
    held["processes"] = [{"pid": 9, "name": "<img>\x1b\u202e", "memory": 200 * MIB}]
    error = {"type": "OutOfMemory", "message": "no", "reason": "out_of_memory"}
    curve = {"interval_ms": 250, "points": [1, 8192], "near": held}
    body = {"outcome": "failed", "error": error, "retry": {"allowed": True}, "peak_memory_bytes": 512 * MIB}
    ok(api.attempt(one, "finish", curve=curve, **body))
    return one


def test_it_says_who_held_the_memory_and_how_to_go_on(api: Api) -> None:
    api.deploy(task_entry("greet", retry=RETRY))
    run = api.trigger()["id"]
    die(api)
    with browser(api) as client:
        text = client.get(f"/runs/{run}").text
        assert "300 MiB, 59 % of its limit" in text
        assert "&lt;img&gt;␛‹U+202E›" in text
        assert "loading &lt;b&gt;it&lt;/b&gt; all" in text
        assert "half &lt;way&gt;" in text
        assert "Resume there" not in text, "it is tried again by itself"
        die(api, memory=100 * MIB)
        text = client.get(f"/runs/{run}").text
        assert "Attempt 2" in text
        assert "after the kernel had ended the largest process" in text
        assert "Resume there with 2 GiB" in text
        form = client.get(f"/runs/{run}/replay", params={"from": "half <way>", "memory": "2g"}).text
        assert 'name="memory" size="8" placeholder="as before" autocomplete="off" value="2g"' in form
        fields = {"payload": "", "version": "", "from_checkpoint": "half <way>", "memory": "lots"}
        refused = client.post(f"/runs/{run}/replay", data=fields)
        assert (refused.status_code, 'value="lots"' in refused.text) == (422, True)
        made = client.post(f"/runs/{run}/replay", data={**fields, "memory": "2g"}).headers["location"]
    assert api.claim_one()["limits"]["memory"] == 2048 * MIB
    attempts = ok(api.admin.get(f"/api/v1/runs/{run}/attempts"))["items"]
    assert [one["usage"]["held"]["memory_bytes"] for one in attempts] == [500 * MIB, 100 * MIB]
    assert made != f"/runs/{run}"
