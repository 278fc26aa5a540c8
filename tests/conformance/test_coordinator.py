"""The whole coordinator on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.databases import fresh_database
from tests.unit.coordinator.conftest import error, ok, serving


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_from_deployment_to_result(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with ExitStack() as stack:
        url = None
        if kind == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))
        api, _ = stack.enter_context(serving(tmp_path / "data", url))
        api.deploy()
        with ThreadPoolExecutor(2) as pool:
            held = pool.submit(api.claim, timeout=50)
            run = api.trigger(payload={"n": 1}, tags=["x"], idempotency_key="k")
            (assignment,) = held.result(40)["assignments"]
            waiting = pool.submit(
                lambda: ok(api.admin.get(f"/api/v1/runs/{run['id']}/wait", params={"timeout": 50}))
            )
            ok(api.attempt(assignment, "start", start="cold"))
            ok(api.attempt(assignment, "checkpoint", key="k", value={"large": "x" * 600_000}))
            ok(api.attempt(assignment, "finish", outcome="completed", result=[1, None, "ä\x00"]))
            assert waiting.result(40)["result"] == [1, None, "ä\x00"]
        assert ok(api.admin.get("/api/v1/runs", params={"tag": "x"}))["items"][0]["id"] == run["id"]
        answer = api.admin.post("/api/v1/tasks/greet/runs", json={"tags": ["\x00"]})
        if kind == "postgresql":
            error(answer, 422, "invalid")  # PostgreSQL's text has no NUL, and a plain refusal says so
        else:
            assert answer.status_code == 201
