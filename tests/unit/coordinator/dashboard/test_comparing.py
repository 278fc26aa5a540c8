"""Checkpoints of two runs side by side, a log line among its neighbours, and a list as a file."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from coordinator.dashboard import download
from coordinator.dashboard.differing import MOST, Change, changes
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, ok
from tests.unit.coordinator.dashboard.test_site import browser


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, [("a[1].b", "2", "3")]),
        ({"a": 1, "b": 2}, {"b": 2, "c": None}, [("a", "1", None), ("c", None, "null")]),
        ([1, 2], [1], [("[1]", "2", None)]),
        (1, True, [("", "1", "true")]),
        ({"a": 1}, [1], [("", '{"a": 1}', "[1]")]),
        (1, 1.0, [("", "1", "1.0")]),
    ],
)
def test_what_differs_is_named_by_its_place(before: Any, after: Any, found: list[tuple[str, str, str]]) -> None:
    assert changes(before, after) == [Change(*one) for one in found]


def test_what_differs_is_bounded_in_number_and_depth() -> None:
    assert len(changes(list(range(1000)), [])) == MOST + 1
    one: Any = 1
    other: Any = 2
    for _ in range(500):
        one, other = [one], [other]
    (change,) = changes(one, other)
    assert change.path == "[0]" * 8


def test_checkpoints_are_held_against_those_of_another_run(api: Api) -> None:
    api.deploy(task_entry("greet"))
    runs = []
    for number in (1, 2):
        assignment = api.started()
        ok(api.attempt(assignment, "checkpoint", key="same", value={"a": 1}))
        ok(api.attempt(assignment, "checkpoint", key="other", value={"price": number, "<b>": number}))
        if number == 2:
            ok(api.attempt(assignment, "checkpoint", key="new", value=1))
        runs.append(assignment["run"])
    with browser(api) as client:
        page = client.get(f"/runs/{runs[1]}/checkpoints", params={"against": runs[0]}).text
        assert "the same in" in page
        rows = re.findall(
            r'<tr><td class="mono">(.*?)</td><td class="mono">(.*?)</td><td class="mono">(.*?)</td>', page
        )
        assert rows == [("price", "1", "2"), ("&lt;b&gt;", "1", "2")]
        assert "has no checkpoint of this key" in page
        wrong = client.get(f"/runs/{runs[1]}/checkpoints", params={"against": "run_nothing"})
        assert wrong.status_code == 200
        assert "there is no run" in wrong.text
        assert "Replay from here" in wrong.text, "what there is stays"


def test_a_replay_is_compared_with_what_it_replays_by_one_click(api: Api) -> None:
    api.deploy(task_entry("greet"))
    assignment = api.started()
    ok(api.attempt(assignment, "finish", outcome="completed", result=1))
    run = assignment["run"]
    replay = ok(api.admin.post(f"/api/v1/runs/{run}/replay", json={}))["id"]
    with browser(api) as client:
        assert f"/runs/{replay}/checkpoints?against={run}" in client.get(f"/runs/{replay}/checkpoints").text
        assert "against=" not in client.get(f"/runs/{run}/checkpoints").text


def test_a_line_that_was_found_stands_among_its_neighbours(api: Api) -> None:
    api.deploy(task_entry("greet"))
    assignment = api.started()
    run = assignment["run"]
    one = {"at": 1.0, "level": "info", "stream": "stdout"}
    lines = [{"seq": n, "message": f"line-{n:02}.", **one} for n in range(1, 41)]
    ok(api.attempt(assignment, "logs", lines=lines))
    with browser(api) as client:
        found = client.get(f"/runs/{run}/logs", params={"text": "line-20"}).text
        (link,) = re.findall(r'href="([^"]*around=[^"#]*)#', found)
        whole = client.get(f"/runs/{run}/logs", params={"after": "0.0"}).text
        assert re.findall(r"line-(\d\d)\.", whole) == [f"{n:02}" for n in range(1, 41)]
        page = client.get(link).text
        assert re.findall(r"line-(\d\d)\.", page) == [f"{n:02}" for n in range(10, 31)]
        assert "Earlier lines" in page
        assert "Next page" in page
        first = client.get(f"/runs/{run}/logs", params={"around": "1.1"}).text
        assert re.findall(r"line-(\d\d)\.", first) == [f"{n:02}" for n in range(1, 12)]
        assert "Earlier lines" not in first
        assert "around=" not in whole, "all lines have their neighbours beside them"


def test_a_list_is_a_file_for_spreadsheets(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.deploy(task_entry("greet"), task_entry("part"))
    made = [api.trigger(tags=["=cmd()", "b"])["id"] for _ in range(5)]
    other = api.trigger("part")["id"]
    monkeypatch.setattr(download, "_STEP", 2)
    with browser(api) as client:
        answer = client.get("/runs/download", params={"task": "greet"})
        assert answer.headers["content-type"].startswith("text/csv")
        assert 'filename="runs.csv"' in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["id"] for row in rows] == made[::-1]
        assert {row["tags"] for row in rows} == {"'=cmd(),b"}, "no formula"
        assert (rows[0]["status"], rows[0]["started_at"]) == ("queued", "")
        assert other in client.get("/runs/download").text
        assert client.get("/runs/download", params={"since": "yesterday"}).status_code == 422
        monkeypatch.setattr(download, "MOST", 4)
        assert "# 4 runs; there are more" in client.get("/runs/download").text
    with browser(api, None) as client:
        assert client.get("/runs/download").status_code == 303


@pytest.mark.parametrize(
    ("value", "shown"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("-5", "'-5"), (-5, "-5"), ("a\0b", "a\ufffdb"), (None, ""), ("", "")],
)
def test_text_of_tasks_is_no_formula(value: Any, shown: str) -> None:
    assert download.cell({"error": {"message": value}}, ("error", "message")) == shown
    assert download.cell({"error": None}, ("error", "message")) == ""
