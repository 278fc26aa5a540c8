"""Where runs come from, in a real install: events, and webhooks signed by a secret that is nowhere to be read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.signing import standard, stripe
from tests.stack import Stack, stack, written

pytestmark = pytest.mark.docker

TASKS = """
from samovar import Event, Webhook, task


@task(on_event=Event("order.paid", where={"amount": {"gte": 100}}), memory="64m")
def ship(event: dict, event_id: str) -> dict:
    return {"order": event["order"], "event": event_id}


@task(on_event=[Event("order.paid"), Event("order.changed")], memory="64m")
def note(event_id: str) -> str:
    return event_id


@task(webhook=Webhook("stripe", secret="STRIPE_WEBHOOK_SECRET"), memory="64m")
def on_stripe(payload: dict, headers: dict, delivery_id: str) -> dict:
    return {"amount": payload["amount"], "type": headers["content-type"], "delivery": delivery_id}
"""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack() as samovar:
        samovar.deploy_path(written(tmp_path_factory.mktemp("sources"), "sources", TASKS))
        yield samovar


def result(samovar: Stack, run: str) -> Any:
    with samovar.client() as client:
        return client.run(run).result(120)


def test_an_event_runs_the_tasks_that_listen_and_only_once(samovar: Stack) -> None:
    with samovar.client() as client:
        sent = client.send_event("order.paid", {"order": "A-1", "amount": 120}, id="paid-A-1")
        assert client.send_event("order.paid", {"order": "A-1", "amount": 120}, id="paid-A-1") == sent
    runs = {run["task"]: run["id"] for run in sent["runs"]}
    assert result(samovar, runs["ship"]) == {"order": "A-1", "event": "paid-A-1"}
    assert result(samovar, runs["note"]) == "paid-A-1"
    small = samovar.cli("events", "send", "order.paid", "--payload", '{"order": "A-2", "amount": 5}')
    assert [run["task"] for run in small["runs"]] == ["note"]
    assert result(samovar, small["runs"][0]["id"]) == small["id"]


def test_a_signed_webhook_fans_out_to_children_and_gathers_them(samovar: Stack) -> None:
    """examples/prices; `make demo` does it with 1,000."""
    count = 100
    samovar.deploy("prices")
    assert samovar.run("secrets", "set", "SUPPLIER_SECRET", "--project", "prices", stdin=SECRET).returncode == 0
    (hook,) = samovar.cli("webhooks", "urls", "--project", "prices")["items"]
    articles = [{"sku": f"A-{number}", "cost": str(number)} for number in range(count)]
    body = json.dumps({"articles": articles}).encode()
    headers = {"content-type": "application/json", **standard(SECRET, body, time.time(), "list-1")}
    answers = [httpx.post(hook["url"], content=body, headers=headers, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    run = answers[0].json()["run"]
    assert answers[1].json()["run"] == run
    found = result(samovar, run)
    assert (found["list"], found["articles"], list(found["wrong"])) == ("list-1", count, ["A-0"])
    assert found["total"] == f"{1.35 * sum(range(count)):.2f}"
    with samovar.client() as client:
        children = list(client.runs(task="price-article"))
    assert sorted(child.status for child in children) == ["completed"] * (count - 1) + ["failed"]


def test_a_signed_webhook_runs_its_task_and_survives_a_kill(samovar: Stack) -> None:
    (hook,) = samovar.cli("webhooks", "urls", "--project", "sources")["items"]
    body = json.dumps({"id": "evt_1", "amount": 7}).encode()

    def post(headers: dict[str, str]) -> httpx.Response:
        headers = {"content-type": "application/json", **headers}
        return httpx.post(hook["url"], content=body, headers=headers, timeout=30)

    assert post(stripe(SECRET, body, time.time())).status_code == 503
    set_up = samovar.run("secrets", "set", "STRIPE_WEBHOOK_SECRET", "--project", "sources", stdin=SECRET + "\n")
    assert set_up.returncode == 0
    assert post(stripe("forged", body, time.time())).status_code == 401
    first = post(stripe(SECRET, body, time.time()))
    # the answer is a promise: what was answered is there after every process was killed
    samovar.kill()
    samovar.up()
    again = post(stripe(SECRET, body, time.time()))
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    expected = {"amount": 7, "type": "application/json", "delivery": "evt_1"}
    assert result(samovar, first.json()["run"]) == expected

    other = post(standard(SECRET, body, time.time(), "msg_1"))
    assert other.status_code == 201
    assert result(samovar, other.json()["run"]) == {**expected, "delivery": "msg_1"}
    listed = samovar.cli("webhooks", "list", "--project", "sources")["items"]
    assert [item["delivery_id"] for item in listed] == ["msg_1", "evt_1"]
    for path in Path(samovar.data).rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path
