"""What pages keep and put together: saved views, logs of several runs, the bytes of logs."""

from __future__ import annotations

import html
import json
import re

import pytest

from coordinator.dashboard import line
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, ok
from tests.unit.coordinator.dashboard.test_site import browser
from tests.waiting import eventually


def test_a_list_is_kept_under_a_name_and_is_there_at_the_next_sign_in(api: Api) -> None:
    api.deploy()
    made = ok(api.admin.post("/api/v1/keys", json={"name": "reader", "role": "read"}))
    name = "<b>failed & late</b>/x"
    with browser(api, made["key"]) as client:
        assert "Keep this view" not in client.get("/runs").text
        page = client.get("/runs?status=failed&task=greet").text
        address = html.unescape(re.findall(r'name="address" value="([^"]+)"', page)[0])
        saved = client.post("/views/save", data={"address": address, "name": name})
        assert (saved.status_code, saved.headers["location"]) == (303, "/runs?status=failed&task=greet")
        client.post("/views/save", data={"address": "/errors?status=open", "name": "open"})
        # what leads elsewhere is the first page at the most, and over the API it is refused
        client.post("/views/save", data={"address": "//evil.example/runs", "name": "evil"})
        client.post("/logout")
    with browser(api, made["key"]) as client:
        page = client.get("/runs").text
        assert "&lt;b&gt;failed &amp; late&lt;/b&gt;/x" in page
        assert 'href="/runs?status=failed&amp;task=greet"' in page
        assert "status=open" not in page
        assert "status=open" in client.get("/errors").text
        assert "evil.example" not in page + client.get("/").text
        assert client.post("/views/save", data={"address": "/runs?task=a", "name": "\u202e"}).status_code == 422
        assert client.post("/views/save", data={"address": "/runs?task=a", "name": " "}).status_code == 422
    with browser(api) as other:
        assert "failed &amp; late" not in other.get("/runs").text, "they are their key's"
    with api.client(made["key"]) as reader:
        for wrong in ("//evil.example", "https://evil.example", "/\\evil", "runs", "/a\nb", "/" + 2000 * "a"):
            assert reader.put("/api/v1/views/x", json={"address": wrong}).status_code == 422
        assert [one["name"] for one in ok(reader.get("/api/v1/views"))["items"]] == sorted([name, "evil", "open"])
    with browser(api, made["key"]) as client:
        gone = client.post("/views/remove", data={"name": name, "back": "/runs?task=a"})
        assert (gone.status_code, gone.headers["location"]) == (303, "/runs?task=a")
        assert client.post("/views/remove", data={"name": name}).status_code == 404
    done = [e["target"] for e in ok(api.admin.get("/api/v1/audit"))["items"] if e["action"] == "view.remove"]
    assert done[-1] == name


def test_a_log_shows_the_lines_of_the_runs_below_it(api: Api) -> None:
    api.deploy(task_entry("greet"), task_entry("square"))
    parent = api.started()
    spec = {"payload": {}}
    ok(api.attempt(parent, "wait", kind="trigger", key="a", name="square", spec=spec))
    child = api.claim_one()
    ok(api.attempt(child, "start", start="cold"))

    def line(seq: int, message: str) -> dict[str, object]:
        return {"seq": seq, "at": float(seq), "level": "info", "stream": "stdout", "message": message}

    ok(api.attempt(parent, "logs", lines=[line(1, "of the parent"), line(3, "of the parent again")]))
    ok(api.attempt(child, "logs", lines=[line(2, "of the <b>child</b>")]))
    path = f"/runs/{parent['run']}/logs"
    found = ok(api.admin.get(f"/api/v1{path}", params={"children": True, "limit": 2}))
    assert [(one["run"], one["seq"]) for one in found["items"]] == [(parent["run"], 1), (child["run"], 2)]
    assert [(one["run"], one["task"], one["parent"]) for one in found["runs"]] == [
        (parent["run"], "greet", None),
        (child["run"], "square", parent["run"]),
    ]
    rest = ok(api.admin.get(f"/api/v1{path}", params={"children": True, "after": found["next"]}))
    assert ([one["seq"] for one in rest["items"]], rest["next"], rest["left_out"]) == ([3], None, False)
    assert "run" not in ok(api.admin.get(f"/api/v1{path}"))["items"][0]
    wrong = api.admin.get(f"/api/v1{path}", params={"children": True, "after": "1.1"})
    assert wrong.status_code == 422
    file = api.admin.get(f"/api/v1{path}/download", params={"children": True}).text.splitlines()
    assert [text.partition(" ")[0] for text in file] == [parent["run"], child["run"], parent["run"]]
    told = api.admin.get(f"/api/v1{path}/download", params={"children": True, "format": "ndjson"}).text.splitlines()
    assert [json.loads(text)["run"] for text in told] == [parent["run"], child["run"], parent["run"]]
    with browser(api) as client:
        plain = client.get(path).text
        assert "of the parent" in plain
        assert "child&lt;/b&gt;" not in plain
        page = client.get(path, params={"children": "yes"}).text
        assert [
            page.index(text) for text in ("of the parent", "of the &lt;b&gt;child&lt;/b&gt;", "of the parent again")
        ] == sorted(
            page.index(text) for text in ("of the parent", "of the &lt;b&gt;child&lt;/b&gt;", "of the parent again")
        )
        assert f'href="/runs/{child["run"]}/logs"' in page
        assert ">square " in page
        follow = html.unescape(re.findall(r'data-follow="([^"]+)" data-last="([^"]+)"', page)[0][0])
        last = re.findall(r'data-last="([^"]+)"', page)[0]
        ok(api.attempt(child, "logs", lines=[line(4, "the child's last")]))
        for claimed in (child, parent):
            ok(api.attempt(claimed, "finish", outcome="completed"))
        with client.stream("GET", f"{follow}&after={last}") as answer:
            events = [text for text in answer.iter_lines() if text.startswith(("event", "data"))]
        assert [text for text in events if text.startswith("event")] == ["event: lines", "event: over"]
        assert "last" in json.loads(events[1][6:])["html"]
        assert client.get(path, params={"children": "yes", "text": "again"}).status_code == 200


def test_the_system_says_what_the_logs_of_each_project_take(api: Api) -> None:
    api.deploy()
    run = api.started()
    api.deploy(project="quiet")
    message = {"seq": 1, "at": 1.0, "level": "info", "stream": "stdout", "message": "x" * 2048}
    ok(api.attempt(run, "logs", lines=[message]))
    found = {one["project"]: one for one in ok(api.admin.get("/api/v1/system"))["projects"]}
    assert found["orders"]["logs_day"] == found["orders"]["logs_kept"] > 2048
    assert found["orders"]["stored"] > 0
    assert found["quiet"]["logs_kept"] == 0
    with browser(api) as client:
        assert re.search(r"<td>orders</td><td class=\"n\">2\.\d KiB</td>", client.get("/system").text)


def test_who_is_in_line_for_longest_is_named_with_what_holds_it(api: Api) -> None:
    api.deploy()
    first = api.trigger()["id"]
    api.trigger()
    with browser(api) as client:
        overview = client.get("/").text
        assert f"/runs/{first}" in overview.partition("In line for longest: ")[2][:200]
        assert first in client.get("/queues").text
        client.post("/queues/change", data={"project": "orders", "queue": "task/greet", "paused": "yes"})
        page = client.get("/queues").text
        assert "the queue is paused" in page
        assert re.search(r"by settings:admin, <time", page)
        assert "the queue is paused" in client.get("/").text.partition("In line for longest")[2][:600]
    listed = ok(api.admin.get("/api/v1/queues", params={"oldest": True}))["items"]
    assert [queue["oldest"]["run"] for queue in listed if queue["queued"]] == [first]
    assert ok(api.admin.get("/api/v1/queues"))["items"][0]["oldest"] is None


def test_a_version_says_which_runs_are_still_on_it_and_tasks_when_it_came(api: Api) -> None:
    deployed = api.deploy()
    for _ in range(2):
        api.trigger()
    gone = api.trigger()["id"]
    ok(api.admin.post(f"/api/v1/runs/{gone}/cancel"))
    version = api.run(gone)["version"]
    one = next(d for d in ok(api.admin.get("/api/v1/deployments"))["items"] if d["version"] == version)
    assert deployed is None or one["id"]
    with browser(api) as client:
        page = client.get(f"/deployments/{one['id']}").text
        assert ">2 runs</a> that have not ended" in page
        (address,) = re.findall(r'href="(/runs[?][^"]+)">2 runs', page)
        listed = client.get(html.unescape(address)).text
        assert listed.count('data-href="/runs/') == 2
        assert gone not in listed
        eventually(
            lambda: f"deployed: {version}" in client.get("/tasks/orders/greet").text, "the run to be counted"
        )


def test_checkpoints_say_how_long_they_took_and_what_a_replay_saves(api: Api) -> None:
    api.deploy()
    run = api.trigger()["id"]
    assignment = api.claim_one()
    ok(api.attempt(assignment, "start", start="cold"))
    for key in ("first", "second"):
        ok(api.attempt(assignment, "checkpoint", key=key, value=1, took_ms=60_000))
    with browser(api) as client:
        page = client.get(f"/runs/{run}/checkpoints").text
        assert page.count(", took ") == 2
        assert "first" in client.get(f"/runs/{run}/checkpoints?attempt=1").text
        assert "second" not in client.get(f"/runs/{run}/checkpoints?attempt=2").text
        answer = client.get(f"/runs/{run}/checkpoints/download")
        assert [item["key"] for item in answer.json()["items"]] == ["first", "second"]
        replay = client.get(f"/runs/{run}/replay?from=first").text
        assert "which is not needed again" in replay
        assert "which is not needed again" not in client.get(f"/runs/{run}/replay").text
        spans = ok(api.admin.get(f"/api/v1/runs/{run}/trace"))["spans"]
        (attempt,) = [span["id"] for span in spans if span["kind"] == "attempt"]
        assert f"zoom={attempt}" in client.get(f"/runs/{run}").text
        enlarged = client.get(f"/runs/{run}?scale=equal&zoom={attempt}").text
        assert "The time of attempt 1 alone." in enlarged
        assert f'href="/runs/{run}?scale=equal"' in enlarged
        assert "alone." not in client.get(f"/runs/{run}?zoom=nonsense").text


def test_a_queue_says_which_keys_have_its_runs(api: Api) -> None:
    api.deploy()
    for key in ("<b>busy</b>", "<b>busy</b>", "other", None):
        api.trigger(concurrency_key=key)
    with browser(api) as client:
        assert 'href="/queues/orders/task%2Fgreet"' in client.get("/queues").text
        page = client.get("/queues/orders/task%2Fgreet").text
        assert client.get("/queues/orders/nothing").status_code == 404
    rows = re.findall(r"<tr><td>([^<]*)</td><td class=\"n\">(\d)</td><td class=\"n\">(\d)</td></tr>", page)
    assert rows == [("&lt;b&gt;busy&lt;/b&gt;", "0", "2"), ("other", "0", "1")]
    keys = ok(api.admin.get("/api/v1/queues/task/greet/keys", params={"limit": 1}))
    assert (keys["project"], keys["queue"], keys["more"]) == ("orders", "task/greet", True)
    assert keys["items"] == [{"key": "<b>busy</b>", "running": 0, "queued": 2}]


def test_of_many_queues_those_with_the_most_runs_are_shown(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "_ROWS", 1)
    api.deploy(task_entry("a"), task_entry("b"), task_entry("c"))
    for task in ("a", "b", "c", "c"):
        api.trigger(task)
    with browser(api) as client:
        table, _, others = client.get("/queues").text.partition("idle-queues")
    assert ("task/c" in table, "task/a" in table, "task/b" in table) == (True, False, False)
    assert "2 other queues, with fewer runs" in others
