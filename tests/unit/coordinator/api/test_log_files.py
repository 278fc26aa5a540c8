"""A run's lines over HTTP: pages and streams of those that are looked for, and files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.foundation.visible import acts
from tests.unit.coordinator.api.test_stream import events
from tests.unit.coordinator.conftest import Api, error, ok

HOSTILE = "esc \x1b[2J mark \u202e bell \a return \r tab\t zero \u200b line \u2028 é 🫖"


def line(seq: int, message: str, **values: Any) -> dict[str, Any]:
    return {"seq": seq, "at": 1.5, "level": "info", "stream": "stdout", "message": message, **values}


@pytest.fixture
def run(api: Api) -> str:
    """A run that has ended, with 2,500 lines and three more."""
    api.deploy()
    assignment = api.started()
    ok(api.attempt(assignment, "logs", lines=[line(seq, f"line {seq}") for seq in range(1, 2501)]))
    last = [
        line(2501, HOSTILE, level="error", stream="logging", logger="app.\ndb"),
        line(2502, "two\n2026-01-01T00:00:00.000Z L1.1 stdout INFO made up", level="warning"),
        line(2503, "goes on", partial=True),
    ]
    ok(api.attempt(assignment, "finish", outcome="completed", lines=last))
    return str(assignment["run"])


def test_a_page_holds_what_fits_and_names_each_line(api: Api, run: str) -> None:
    path = f"/api/v1/runs/{run}/logs"
    page = ok(api.admin.get(path, params={"level": "warning"}))
    assert [(item["attempt"], item["seq"], item["level"]) for item in page["items"]] == [
        (1, 2501, "error"),
        (1, 2502, "warning"),
    ]
    assert (page["next"], page["last"], page["looked_at"], page["cut_short"]) == (None, "1.2503", 2503, False)
    page = ok(api.admin.get(path, params={"text": "LINE 25", "limit": 4}))
    assert [item["seq"] for item in page["items"]] == [25, 250, 251, 252]
    page = ok(api.admin.get(path, params={"text": "LINE 25", "limit": 4, "after": page["next"]}))
    assert [item["seq"] for item in page["items"]] == [253, 254, 255, 256]
    for params in ({"attempt": 2}, {"stream": "stderr"}, {"logger": "app.d"}):
        assert ok(api.admin.get(path, params=params))["items"] == []


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"level": "loud"}, "'debug', 'info', 'warning', 'error' or 'critical'"),
        ({"stream": "stdin"}, "'stdout'"),
        ({"attempt": "0"}, "attempt"),
        ({"attempt": "9" * 20}, "attempt"),
        ({"text": "x" * 1001}, "1000"),
        ({"after": "9" * 30 + ".1"}, "after"),
        ({"after": "1.١"}, "after"),
    ],
)
def test_a_filter_that_is_none_is_refused_with_what_there_is(api: Api, params: dict[str, str], named: str) -> None:
    api.deploy()
    run = api.trigger()["id"]
    answer = api.admin.get(f"/api/v1/runs/{run}/logs", params=params)
    assert answer.status_code == 422
    problem = answer.json()["error"]
    assert named in problem["message"]
    assert [field["path"] for field in problem["fields"]] == list(params)


def test_a_stream_sends_what_fits_and_goes_on_to_the_end(api: Api) -> None:
    api.deploy()
    run = api.trigger()["id"]
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(lambda: list(events(api, run, query="?text=needle&level=warning")))
        assignment = api.claim_one()
        ok(api.attempt(assignment, "start", start="warm"))
        hay = [line(seq, "hay", level="error") for seq in range(1, 1201)]
        ok(api.attempt(assignment, "logs", lines=[*hay, line(1201, "a NEEDLE", level="error")]))
        ok(api.attempt(assignment, "finish", outcome="completed", lines=[line(1202, "needle of info")]))
        seen = followed.result(40)
    assert [data["seq"] for name, _, data in seen if name == "log"] == [1201]
    assert seen[-1][2]["status"] == "completed"
    # its events carry where it has looked, so that nothing is looked at twice
    assert seen[-1][1] == "1.1202"


def test_a_file_of_text_has_every_line_and_nothing_that_acts(api: Api, run: str) -> None:
    answer = api.admin.get(f"/api/v1/runs/{run}/logs/download")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{run}.log"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not [character for character in answer.text if acts(character)]
    lines = answer.text.split("\n")
    assert lines[0] == "1970-01-01T00:00:01.500Z L1.1 stdout INFO line 1"
    assert [text.rpartition(" ")[2] for text in lines[:2500]] == [str(seq) for seq in range(1, 2501)]
    assert lines[2500] == (
        "1970-01-01T00:00:01.500Z L1.2501 logging ERROR app.\\ndb: esc \\x1b[2J mark \\u202e bell \\a return \\r "
        "tab\t zero \\u200b line \\u2028 é 🫖"
    )
    # a line within a message begins like no line of its own
    assert lines[2501:2503] == [
        "1970-01-01T00:00:01.500Z L1.2502 stdout WARNING two",
        "    2026-01-01T00:00:00.000Z L1.1 stdout INFO made up",
    ]
    assert lines[2503:] == ["1970-01-01T00:00:01.500Z L1.2503 stdout INFO goes on", ""]


def test_a_file_for_programs_has_every_character(api: Api, run: str) -> None:
    path = f"/api/v1/runs/{run}/logs/download"
    answer = api.admin.get(path, params={"format": "ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    items = [json.loads(text) for text in answer.content.split(b"\n")[:-1]]
    assert [item["seq"] for item in items] == list(range(1, 2504))
    assert items[2500]["message"] == HOSTILE
    page = ok(api.admin.get(f"/api/v1/runs/{run}/logs", params={"level": "error"}))
    answer = api.admin.get(path, params={"format": "ndjson", "level": "error"})
    assert [json.loads(text) for text in answer.text.splitlines()] == page["items"]
    assert answer.headers["content-disposition"] == f'attachment; filename="{run}-filtered.ndjson"'


def test_a_file_of_nothing_and_of_no_run(api: Api, run: str) -> None:
    answer = api.admin.get(f"/api/v1/runs/{run}/logs/download", params={"text": "nowhere"})
    assert (answer.status_code, answer.content) == (200, b"")
    error(api.admin.get("/api/v1/runs/run_none/logs/download"), 404, "not_found")
    error(api.admin.get(f"/api/v1/runs/{run}/logs/download", params={"format": "xml"}), 422, "invalid_request")
    assert api.client(None).get(f"/api/v1/runs/{run}/logs/download").status_code == 401
    with api.admin.stream("HEAD", f"/api/v1/runs/{run}/logs/download") as head:
        assert (head.status_code, head.read()) == (200, b"")
