"""Waits over HTTP: what an attempt is answered, and what the URL of a token does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, error, ok

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def wait(api: Api, assignment: dict[str, Any], kind: str, key: str, **fields: Any) -> dict[str, Any]:
    return ok(api.attempt(assignment, "wait", kind=kind, key=key, **fields))


def token(api: Api, timeout: float | None = None) -> tuple[dict[str, Any], str]:
    """An attempt that has asked for a token, and the path that completes it."""
    assignment = api.started()
    answer = wait(api, assignment, "token", "t", spec={"timeout": timeout})
    assert answer["url"].endswith(f"/tokens/{answer['id']}")
    return assignment, f"/tokens/{answer['id']}"


def test_a_token_is_the_same_whenever_its_run_asks(api: Api) -> None:
    api.deploy()
    assignment, path = token(api)
    again = wait(api, assignment, "token", "t")
    other = wait(api, assignment, "token", "u")
    assert (again["state"], f"/tokens/{again['id']}") == ("pending", path)
    assert other["id"] != again["id"]
    assert len(path.removeprefix("/tokens/tok_")) == 40


def test_whoever_has_the_url_completes_it_once(api: Api) -> None:
    api.deploy()
    assignment, path = token(api)
    ok(api.attempt(assignment, "finish", outcome="waiting", waits=["t"]))
    with api.client(None) as anybody:
        assert ok(anybody.post(path, json={"yes": [1, None]})) == {"completed": True}
        error(anybody.post(path, json=1), 409, "completed_already")
        error(anybody.post(path + "0", json=1), 404, "unknown_token")
        error(anybody.post("/tokens/x", json=1), 404, "unknown_token")
    again = api.claim_one()
    (stored,) = again["waits"]
    assert stored["answer"]["value"] == {"yes": [1, None]}
    items = ok(api.admin.get(f"/api/v1/runs/{again['run']}/checkpoints"))["items"]
    assert [(i["key"], i["kind"], i["state"], i["value"]) for i in items] == [
        ("t", "token", "done", {"yes": [1, None]})
    ]


@pytest.mark.parametrize(("content", "value"), [(b"", None), (b" \n", None), (b"null", None), (b'"a"', "a")])
def test_any_json_will_do(api: Api, content: bytes, value: Any) -> None:
    api.deploy()
    assignment, path = token(api)
    with api.client(None) as anybody:
        ok(anybody.post(path, content=content))
    assert wait(api, assignment, "token", "t")["value"] == value


def test_what_is_no_json_or_too_large_is_refused_and_the_token_stays(api: Api) -> None:
    api.deploy()
    _, path = token(api)
    with api.client(None) as anybody:
        error(anybody.post(path, content=b"{"), 422, "invalid_request")
        error(anybody.post(path, content=b"\xff\xfe"), 422, "invalid_request")
        error(anybody.post(path, content=b"[" * 100_000), 422, "invalid_request")
        error(anybody.post(path, json="x" * (512 * 1024)), 413, "too_large")
        error(anybody.post(path, content=iter([b'"' + b"x" * 400_000, b"x" * 400_000 + b'"'])), 413, "too_large")
        ok(anybody.post(path, json=1))


def test_a_token_is_gone_after_its_time_and_with_its_run(api: Api) -> None:
    api.deploy()
    assignment, path = token(api, timeout=0)
    with api.client(None) as anybody:
        error(anybody.post(path, json=1), 410, "token_timed_out")
        assert wait(api, assignment, "token", "t", spec={"timeout": 0})["state"] == "timed_out"
        error(anybody.post(path, json=1), 410, "token_timed_out")
        ok(api.attempt(assignment, "finish", outcome="completed", result=1))
        other, path = token(api)
        ok(api.attempt(other, "finish", outcome="completed", result=1))
        error(anybody.post(path, json=1), 410, "token_closed")


def test_a_sleep_says_how_long_it_is(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    answer = wait(api, assignment, "sleep", "s", spec={"seconds": 60})
    assert answer["state"] == "pending"
    assert 50 < answer["left"] <= 60
    assert wait(api, assignment, "sleep", "now", spec={"seconds": 0})["state"] in ("pending", "done")
    assert wait(api, assignment, "sleep", "now", spec={"seconds": 0})["state"] == "done"
    refused = api.attempt(assignment, "wait", kind="sleep", key="x", spec={"seconds": "long"})
    assert error(refused, 422, "invalid")["fields"][0]["path"] == "seconds"
    refused = api.attempt(assignment, "wait", kind="event", key="s", name="paid")
    assert "a sleep" in error(refused, 409, "nondeterministic")["message"]


def test_children_and_how_they_ended(api: Api) -> None:
    api.deploy(task_entry("greet"), task_entry("square", SCHEMA))
    parent = api.started()
    items = [{"payload": {"n": n}} for n in range(3)]
    answer = wait(api, parent, "batch", "b", name="square", spec={"items": items})
    assert (answer["state"], len(answer["runs"])) == ("pending", 3)
    # a large result is left out of what all of them together say, and can be asked for
    results: dict[str, Any] = {}
    for n in range(3):
        child = api.claim_one()
        results[child["run"]] = value = {"n": n, "data": "x" * (700_000 if n == 1 else 10)}
        ok(api.attempt(child, "finish", outcome="completed", result=value))
    told = wait(api, parent, "batch", "b", name="square", spec={"items": items})
    assert told["state"] == "done"
    assert [child["run"] for child in told["children"]] == answer["runs"]
    for index, child in enumerate(told["children"]):
        large = len(results[child["run"]]["data"]) > 10
        assert child["omitted"] is large
        assert child["result"] == (None if large else results[child["run"]])
        whole = ok(api.attempt(parent, "wait-result", key="b", index=index))
        assert whole["result"] == results[child["run"]]
    error(api.attempt(parent, "wait-result", key="b", index=3), 422, "invalid")
    error(api.attempt(parent, "wait-result", key="none", index=0), 422, "invalid")
    shown = api.run(answer["runs"][0])
    assert (shown["parent"], shown["root"]) == (parent["run"], parent["run"])


def test_a_refused_child_is_no_stale_attempt(api: Api) -> None:
    """To the sidecar a 404 would say that the attempt is gone."""
    api.deploy(task_entry("greet"), task_entry("square", SCHEMA))
    parent = api.started()
    unknown = api.attempt(parent, "wait", kind="run", key="a", name="squar", spec={"payload": {}})
    error(unknown, 422, "unknown_task")
    wrong = api.attempt(parent, "wait", kind="run", key="b", name="square", spec={"payload": {"n": "x"}})
    assert error(wrong, 422, "bad_payload")["fields"] == [{"path": "n", "message": "'x' is not an integer"}]
    version = {"payload": {"n": 1}, "options": {"version": "20000101.1"}}
    error(api.attempt(parent, "wait", kind="run", key="c", name="square", spec=version), 422, "unknown_version")
    ok(api.attempt(parent, "finish", outcome="completed", result=1))
    late = api.attempt(parent, "wait", kind="trigger", key="d", name="square", spec={"payload": {"n": 1}})
    error(late, 409, "stale_attempt")
