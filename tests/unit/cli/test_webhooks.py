"""`samovar webhooks` against a real coordinator."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import httpx

from tests.signing import github, stripe
from tests.unit.cli.conftest import TASKS, Hand, Install

BODY = b'{"id": "evt_1"}'


def pay(properties: dict[str, Any], secret: str | None = "WHSEC") -> dict[str, Any]:
    (task,) = copy.deepcopy(TASKS)
    task["id"] = "pay"
    task["schema"] = {"type": "object", "properties": properties, "additionalProperties": False}
    task["options"]["webhook"] = {"path": "stripe", "secret": secret, "scheme": None}
    return task


def test_urls_list_show_and_replay(install: Install, hand: Hand, project: Path) -> None:
    assert "webhook=Webhook(...)" in install.samovar("webhooks", "urls").err
    assert "samovar webhooks urls" in install.samovar("webhooks", "list").err
    hand.tasks = [pay({"payload": {"type": "array"}})]
    said = install.samovar("deploy", str(project))
    assert "samovar secrets set WHSEC --project demo" in said.out + said.err
    checks = {check["name"]: check for check in install.samovar("doctor", "--json", code=None).document["items"]}
    assert checks["webhook"]["remedy"] == "samovar secrets set WHSEC --project demo"
    (hook,) = install.json("webhooks", "urls")["items"]
    assert "WHSEC, not set" in install.samovar("webhooks", "urls").out

    install.samovar("secrets", "set", "WHSEC", "--project", "demo", stdin="the secret")
    answer = httpx.post(hook["url"], content=BODY, headers=stripe("the secret", BODY, time.time()))
    assert (answer.status_code, answer.json()["status"]) == (202, "dead")
    httpx.post(hook["url"], content=BODY, headers=github("forged", BODY))
    assert "does not fit" in install.samovar("webhooks", "urls").out
    (item,) = install.json("webhooks", "list", "--status", "dead", "--webhook", "stripe")["items"]
    assert (item["delivery_id"], item["run"]) == ("evt_1", None)
    assert "is not a list" in install.samovar("webhooks", "list").out
    shown = install.samovar("webhooks", "show", item["id"]).out
    assert BODY.decode() in shown
    refused = install.json("webhooks", "replay", item["id"], code=2)["error"]
    assert refused["fields"] == [{"path": "payload", "message": "{'id': 'evt_1'} is not a list"}]

    hand.tasks = [pay({"payload": {}})]
    install.samovar("deploy", str(project))
    run = install.samovar("webhooks", "replay", item["id"]).out.strip()
    assert install.json("webhooks", "list")["items"][0]["run"] == run
    assert install.json("webhooks", "list", "--status", "dead")["items"] == []
    assert install.json("webhooks", "replay", "whd_none", code=4)["error"]["code"] == "not_found"
    assert install.json("webhooks", "list", "--status", "lost", code=2)["error"]["fields"][0]["path"] == "status"


def test_an_unsigned_one_is_warned_about(install: Install, hand: Hand, project: Path) -> None:
    hand.tasks = [pay({"payload": {}}, None)]
    said = install.samovar("deploy", str(project))
    assert "is unsigned" in said.out + said.err
    assert "unsigned" in install.samovar("webhooks", "urls").out
    assert "demo/stripe is unsigned" in install.samovar("doctor", code=None).out
