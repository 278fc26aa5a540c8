"""`samovar events` against a real coordinator."""

from __future__ import annotations

import copy
from pathlib import Path

from tests.unit.cli.conftest import TASKS, Hand, Install


def test_send_and_list(install: Install, hand: Hand, project: Path, tmp_path: Path) -> None:
    assert "samovar events send" in install.samovar("events", "list").err
    (task,) = copy.deepcopy(TASKS)
    task["id"] = "ship"
    task["schema"] = {"type": "object", "properties": {"event": {"type": "object"}}, "additionalProperties": False}
    task["options"]["on_event"] = [{"name": "order.paid", "where": None}]
    hand.tasks = [task]
    install.samovar("deploy", str(project))

    sent = install.json("events", "send", "order.paid", "--payload", '{"order": 1}', "--id", "e1")
    ((run,), payload) = sent["runs"], sent["payload"]
    assert (sent["id"], payload, run["task"]) == ("e1", {"order": 1}, "ship")
    again = install.samovar("events", "send", "order.paid", "--payload", '{"order": 1}', "--id", "e1")
    assert again.out.strip() == "e1"
    assert f"demo/ship: run {run['id']}" in again.err
    assert "no task listens to 'order.sent'" in install.samovar("events", "send", "order.sent").err
    file = tmp_path / "payload.json"
    file.write_text("[1]")
    refused = install.samovar("events", "send", "order.paid", "--payload", f"@{file}", "--project", "demo")
    assert "demo/ship has no run" in refused.err
    assert "event: [1] is not an object" in refused.err

    listed = install.json("events", "list")["items"]
    assert [event["name"] for event in listed] == ["order.paid", "order.sent", "order.paid"]
    assert listed[2] == sent
    assert "demo/ship" in install.samovar("events", "list", "--limit", "1").out


def test_refusals(install: Install) -> None:
    assert install.json("events", "send", "a b", code=2)["error"]["fields"][0]["path"] == "name"
    assert install.json("events", "send", "a", "--payload", "{", code=2)["error"]["code"] == "invalid_payload"
    assert install.json("events", "send", "a", "--project", "no", code=4)["error"]["code"] == "unknown_project"
