"""Following a run: every line once, in order, also across reconnects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.unit.coordinator.conftest import ADMIN, Api, error, ok

Event = tuple[str, str, dict[str, Any]]


def events(api: Api, run: str, last: str | None = None, query: str = "") -> Iterator[Event]:
    """(name, id, data) as they come, until the stream ends."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with api.client(ADMIN) as client:
        with client.stream("GET", f"/api/v1/runs/{run}/stream{query}", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for text in answer.iter_lines():
                if text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], fields["id"], json.loads(fields["data"])
                    fields = {}


def line(seq: int, message: str) -> dict[str, Any]:
    return {"seq": seq, "at": 1.0, "level": "info", "stream": "stdout", "message": message}


def test_a_stream_follows_a_run_to_its_end(api: Api) -> None:
    api.deploy()
    run = api.trigger()["id"]
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(lambda: list(events(api, run)))
        assignment = api.claim_one()
        ok(api.attempt(assignment, "start", start="warm"))
        ok(api.attempt(assignment, "logs", lines=[line(0, "one"), line(1, "two\nlines")]))
        ok(api.attempt(assignment, "report", progress={"fraction": 0.5, "message": "half"}))
        ok(api.attempt(assignment, "finish", outcome="completed", result=1, lines=[line(2, "three")]))
        seen = followed.result(40)
    assert [data["message"] for name, _, data in seen if name == "log"] == ["one", "two\nlines", "three"]
    statuses = [data["status"] for name, _, data in seen if name == "status"]
    assert statuses[-1] == "completed"
    assert statuses == [s for s in ("queued", "running", "completed") if s in statuses]
    assert [data["progress"] for name, _, data in seen if name == "progress"][-1]["fraction"] == 0.5
    assert seen[-1][0] == "status"
    assert "result" not in seen[-1][2]


def test_a_client_that_comes_back_gets_the_rest(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    ok(api.attempt(assignment, "logs", lines=[line(n, f"line {n}") for n in range(3)]))
    first: list[Event] = []
    for event in events(api, assignment["run"]):
        first.append(event)
        if event[0] == "log" and event[2]["message"] == "line 1":
            break
    ok(api.attempt(assignment, "finish", outcome="completed", lines=[line(3, "line 3")]))
    rest = list(events(api, assignment["run"], last=first[-1][1]))
    assert [data["message"] for name, _, data in rest if name == "log"] == ["line 2", "line 3"]
    assert [(name, data["status"]) for name, _, data in rest if name == "status"] == [("status", "completed")]


def test_a_long_log_comes_whole(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    ok(api.attempt(assignment, "logs", lines=[line(n, str(n)) for n in range(1300)]))
    ok(api.attempt(assignment, "finish", outcome="completed"))
    streamed = [data["message"] for name, _, data in events(api, assignment["run"]) if name == "log"]
    assert streamed == [str(n) for n in range(1300)]
    paged: list[str] = []
    after = None
    while True:
        page = ok(api.admin.get(f"/api/v1/runs/{assignment['run']}/logs", params={"after": after, "limit": 600}))
        paged += [item["message"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert paged == streamed


def test_lines_that_come_later_are_found_from_the_last_one(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    path = f"/api/v1/runs/{assignment['run']}/logs"
    page = ok(api.admin.get(path))
    assert (page["items"], page["last"]) == ([], None)
    ok(api.attempt(assignment, "logs", lines=[line(1, "one"), line(2, "two")]))
    page = ok(api.admin.get(path, params={"after": page["last"]}))
    assert ([item["message"] for item in page["items"]], page["next"]) == (["one", "two"], None)
    last = page["last"]
    page = ok(api.admin.get(path, params={"after": last}))
    assert (page["items"], page["last"]) == ([], last)
    ok(api.attempt(assignment, "finish", outcome="completed", lines=[line(3, "three")]))
    page = ok(api.admin.get(path, params={"after": page["last"]}))
    assert [item["message"] for item in page["items"]] == ["three"]


def test_what_cannot_be_followed_is_refused_first(api: Api) -> None:
    error(api.admin.get("/api/v1/runs/run_none/stream"), 404, "not_found")
    api.deploy()
    run = api.trigger()["id"]
    error(api.admin.get(f"/api/v1/runs/{run}/stream", params={"after": "x"}), 422, "invalid")
    error(api.admin.get(f"/api/v1/runs/{run}/logs", params={"after": "1"}), 422, "invalid")
