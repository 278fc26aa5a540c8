"""Waits in a real install: what happens to the container, and how the run goes on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import httpx
import pytest
from samovar import ApiError

from tests.stack import Stack, stack
from tests.waiting import eventually

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("waits")
        yield made


def status(samovar: Stack, run: str) -> str:
    return str(samovar.cli("runs", "show", run)["status"])


def waiting(samovar: Stack, run: str) -> None:
    eventually(lambda: status(samovar, run) == "waiting", f"{run} to wait")


def test_a_token_is_waited_for_without_a_container(samovar: Stack) -> None:
    book = uuid.uuid4().hex
    with samovar.client() as client:
        run = client.trigger("approve", {"book": book})
        waiting(samovar, run.id)
        busy = [c for r in samovar.cli("pool")["items"] for c in r["containers"] if c["state"] == "busy"]
        assert busy == []
        url = (samovar.ledger / book).read_text().split()[0]
        assert url.startswith(f"{samovar.url}/tokens/tok_")
        why = samovar.cli("runs", "why", run.id)
        assert (why["reason"], "approval" in why["message"], why["until"] is not None) == ("waiting", True, True)
        items = {item["key"]: item for item in samovar.cli("checkpoints", run.id)["items"]}
        assert (items["approval"]["kind"], items["approval"]["state"]) == ("token", "pending")
        answer = httpx.post(url, json={"by": "Ada"})
        assert (answer.status_code, answer.json()) == (200, {"completed": True})
        result = run.result(60)
        assert result == {"answer": {"by": "Ada"}, "attempt": 2, "same": url}
        assert (samovar.ledger / book).read_text().split() == [url, "acted"]
        assert [a["status"] for a in samovar.cli("runs", "attempts", run.id)["items"]] == ["suspended", "completed"]
        # the second time it is refused, and so is one that nobody has made
        assert httpx.post(url, json=1).status_code == 409
        assert httpx.post(url + "0", json=1).status_code == 404
        with pytest.raises(ApiError) as twice:
            client.complete_token(url.rpartition("/")[2], 1)
        assert (twice.value.status, twice.value.code) == (409, "completed_already")


def test_a_container_that_waited_is_warm_for_the_next_run(samovar: Stack) -> None:
    samovar.finished("who-am-i")
    run = samovar.cli("trigger", "waits")["id"]
    waiting(samovar, run)
    after = samovar.finished("who-am-i")
    assert after["timings"]["start"] in ("warm", "waited")
    samovar.cli("runs", "cancel", run)
    assert status(samovar, run) == "canceled"


def test_the_example_waits_for_a_persons_yes(samovar: Stack) -> None:
    samovar.deploy("approval")
    outbox, refunds = samovar.ledger / "outbox.log", samovar.ledger / "refunds.log"
    with samovar.client() as client:
        run = client.trigger("refund", {"order_id": "o-1", "cents": 12_900})
        waiting(samovar, run.id)
        (mail,) = [json.loads(line) for line in outbox.read_text().splitlines()]
        assert not refunds.exists()
        httpx.post(mail["url"], json={"approved": True, "by": "Ada"})
        assert run.result(60) == {"order": "o-1", "paid": 12_900, "why": "approved by Ada"}
    assert len(refunds.read_text().splitlines()) == len(outbox.read_text().splitlines()) == 1
    late = samovar.finished("refund", order_id="o-2", cents=12_900, within="300ms")
    assert late["result"]["why"] == "nobody answered within 300ms"


def test_many_runs_wait_and_nothing_is_held(samovar: Stack) -> None:
    with samovar.client() as client:
        made = client.batch_trigger("paid", [{"order": 100 + n} for n in range(24)])
        eventually(lambda: all(run.refresh().status == "waiting" for run in made), "all of them to wait")

        def held() -> list[str]:
            entries = [entry for runner in samovar.cli("pool")["items"] for entry in runner["containers"]]
            return [entry["container"] for entry in entries if entry["state"] != "idle"]

        eventually(lambda: held() == [], "no container to be held")
        for n in range(24):
            client.send_event("order.paid", {"order": 100 + n})
        assert [run.result(120) for run in made] == [{"order": 100 + n} for n in range(24)]


def test_the_command_line_completes_a_token(samovar: Stack) -> None:
    book = uuid.uuid4().hex
    run = samovar.cli("trigger", "approve", "--payload", f'{{"book": "{book}"}}')["id"]
    waiting(samovar, run)
    token = (samovar.ledger / book).read_text().split()[0].rpartition("/")[2]
    assert samovar.cli("tokens", "complete", token, "--payload", '{"n": 1}') == {"completed": True}
    assert samovar.cli("runs", "wait", run, "--timeout", "60")["result"]["answer"] == {"n": 1}
    assert samovar.cli("tokens", "complete", token, code=2)["error"]["code"] == "completed_already"
    samovar.cli("tokens", "complete", "tok_none", code=4)


def test_a_token_that_nobody_completes_times_out(samovar: Stack) -> None:
    run = samovar.finished("approve", book=uuid.uuid4().hex, within="200ms")
    assert run["result"] == {"late": "the token 'approval' was not completed within '200ms'"}


@pytest.mark.parametrize(("seconds", "attempts"), [(0.3, 1), (5.5, 2)])
def test_a_sleep_is_slept_once(samovar: Stack, seconds: float, attempts: int) -> None:
    book = uuid.uuid4().hex
    run = samovar.finished("sleeps", book=book, seconds=seconds)
    assert (run["status"], run["result"]) == ("completed", attempts)
    assert (samovar.ledger / book).read_text().split() == ["before", "after"]


def test_an_event_ends_the_wait_that_it_fits(samovar: Stack) -> None:
    with samovar.client() as client:
        one, two = (client.trigger("paid", {"order": n}) for n in (1, 2))
        waiting(samovar, two.id)
        waiting(samovar, one.id)
        client.send_event("order.paid", {"order": 2, "cents": 100})
        assert two.result(60) == {"order": 2, "cents": 100}
        assert one.refresh().status == "waiting"
        one.cancel()
        late = client.trigger("paid", {"order": 3, "timeout": "100ms"}).wait(60)
        assert (late.status, late.data["error"]["type"]) == ("failed", "WaitTimeout")


def test_branches_of_an_async_task_wait_side_by_side(samovar: Stack) -> None:
    with samovar.client() as client:
        run = client.trigger("both", {"order": 9})
        waiting(samovar, run.id)
        client.send_event("order.paid", {"order": 9})
        assert run.result(60) == [{"order": 9}, "rested"]
