"""Bodies are counted before they are made, and nobody has more in flight than a share."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api import budgets, reading
from coordinator.api.budgets import Budgets, Limits
from coordinator.foundation.counting import count, has
from coordinator.foundation.errors import Invalid, RateLimited, TooLarge
from coordinator.foundation.limits import ADDRESS_BURST, MAX_BODY_DEPTH, MAX_BODY_NODES
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, error, ok
from tests.waiting import eventually

RUNS = "/api/v1/tasks/greet/runs"
LONG = b"long" * 2000

#: With names, colons and quotes in them, short and long.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from(["long " * 1000, "a:b" * 1500, '"' * 1500, "1" * 5000, "\\" * 1000, "é" * 3000]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("a:b"), inner),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * (MAX_BODY_NODES + 1) + b"1]",
        b"{" + b",".join(b'"%d":1' % n for n in range(MAX_BODY_NODES + 2)) + b"}",
        b"[" + b"1," * (MAX_BODY_NODES + 1) + b"1]",
    ],
)
def test_values_are_counted_before_they_are_made(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for parser, name in ((reading.json, "loads"), (reading.pydantic_core, "from_json")):
        monkeypatch.setattr(parser, name, lambda *a, **k: pytest.fail("it was parsed"))
    with pytest.raises(TooLarge, match="more than 500000 values"):
        reading.parse(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("closed", [True, False])
def test_depth_is_counted_before_it_is_made(opening: bytes, closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for parser, name in ((reading.json, "loads"), (reading.pydantic_core, "from_json")):
        monkeypatch.setattr(parser, name, lambda *a, **k: pytest.fail("it was parsed"))
    body = opening * (MAX_BODY_DEPTH + 1) + (b"1" + (b"]" if opening == b"[" else b"}") * 5000 if closed else b"")
    with pytest.raises(Invalid, match="nested more than"):
        reading.parse(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": ' + b"9" * 1_000_000 + b"}", "1,000 digits"),
        (b'{"a": -0.' + b"9" * 5000 + b"}", "1,000 digits"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        (b'{"x": [{"a": 1, "a": 1}]}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        # long ones are read by another parser, where they can be
        (b'{"a": "%b", "b": 2, "a": 3}' % LONG, "'a' stands twice"),
        (b'{"x": [{"a": 1, "a": "%b"}]}' % LONG, "'a' stands twice"),
        (b'{"x": [{"a:": {}, "a:": "%b"}]}' % LONG, "'a:' stands twice"),
        (b'{"a": "%b", "b": "\\n", "a": 3}' % LONG, "'a' stands twice"),
        (b'{"a": [NaN, "%b"]}' % LONG, "NaN is not JSON"),
        (b'{"a": "%b\xff"}' % LONG, "not UTF-8"),
    ],
)
def test_what_two_readers_would_read_differently_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        reading.parse(body)


@pytest.mark.parametrize(
    "value",
    [
        {"text": "[{," * 600_000},
        {"text": '\\"[' * 600_000 + "\\"},
        {"digits": "9" * 20_000, "list": [1.5, None, True, "é"]},
        [[[]]] * 1000,
    ],
    ids=["commas", "escapes", "digits", "lists"],
)
def test_what_stands_in_text_is_not_counted(value: Any) -> None:
    assert reading.parse(json.dumps(value).encode()) == value


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_a_body_is_the_value_it_was_made_of(value: Any, ascii: bool, indent: int | None) -> None:
    for each in (value, {"a": [value] * 3, "long": "x" * 5000}):
        found = reading.parse(json.dumps(each, ensure_ascii=ascii, indent=indent).encode("utf-8"))
        # 1 and 1.0 are equal, and not the same
        assert json.dumps(found) == json.dumps(each)


@given(st.text(alphabet="a,", max_size=200), st.integers(0, 80), st.integers(1, 60))
def test_what_is_rare_and_what_is_not_are_counted_alike(text: str, least: int, factor: int) -> None:
    text = "," * least + text * factor + "x" * 5000
    assert count(text, ",") == text.count(",")
    assert count(text.encode(), b",") == text.count(",")
    assert has(text, ",a,") == (",a," in text)


def test_no_digits_of_a_body_are_gone_through_again_and_again() -> None:
    """The work for a body grows with its bytes, whatever they are: the interpreter is held meanwhile."""

    def least(body: bytes) -> float:
        took = []
        for _ in range(5):
            began = time.thread_time()
            reading.measure(body)
            took.append(time.thread_time() - began)
        return min(took)

    plain = b'{"text": "' + b"x" * 1_000_000 + b'"}'
    # a number with one digit more is refused
    almost = b'{"list": [' + b",".join([b"9" * 999] * 1000) + b"]}"
    assert least(almost) < 20 * least(plain)


def test_a_body_beyond_the_values_cap_is_refused_before_it_is_read(api: Api) -> None:
    api.deploy()
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        for _ in range(300):
            sent += 1
            yield b"x" * 65536

    answer = api.admin.post(RUNS, content=chunks(), headers={"Content-Length": str(300 * 65536)})
    error(answer, 413, "too_large")
    error(api.admin.post(RUNS, content=chunks(), headers={"Content-Type": "application/json"}), 413, "too_large")


def test_nine_megabytes_of_unknown_fields_cost_one_problem(api: Api) -> None:
    api.deploy()
    body = {f"payloda{n:06}": n for n in range(300_000)}
    said = error(api.admin.post(RUNS, json=body), 422, "invalid_request")
    assert len(said["fields"]) == 1
    api.deploy(task_entry("greet", {"type": "object", "properties": {}, "additionalProperties": False}))
    payload = {f"n{n}": "x" * 90 for n in range(60_000)}
    said = error(api.admin.post(RUNS, json={"payload": payload}), 422, "bad_payload")
    assert len(said["fields"]) == 50


def test_a_long_list_never_meets_the_databases_limit(api: Api) -> None:
    api.deploy()
    tags = [("tag", f"t{n}") for n in range(1100)]
    assert api.admin.get("/api/v1/runs", params=tags).status_code == 422
    statuses = [("status", "queued")] * 1500
    assert api.admin.get("/api/v1/runs", params=statuses).status_code == 200
    body = {"filter": {"status": ["queued"] * 40_000, "runs": [f"run_{n}" for n in range(1000)]}, "dry_run": True}
    assert api.admin.post("/api/v1/runs/cancel", json=body).status_code == 200
    names = [{"id": f"a{n}", "token": 1} for n in range(9000)]
    beat = {"attempts": names, "builds": names, "memory": 1, "slots": 1, "task_memory": 1}
    ok(api.runner.post("/internal/v1/runners/r1/heartbeat", json=beat))


@pytest.mark.parametrize("body", ["[1]", "1", '"x"', "null", "[[]]", "true"])
@pytest.mark.parametrize(
    "path",
    [RUNS, f"{RUNS}/batch", "/api/v1/events", "/api/v1/runs/cancel", "/api/v1/keys", "/api/v1/schedules"],
)
def test_bodies_that_are_no_objects(api: Api, path: str, body: str) -> None:
    answer = api.admin.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"


# ---------------------------------------------------------------- budgets


def test_requests_bytes_and_polls_have_a_budget_each() -> None:
    kept = Budgets()
    limits = Limits(requests=2, bytes=100, polls=1)
    first, second = kept.admit("a", limits), kept.admit("a", limits)
    with pytest.raises(RateLimited, match="requests in flight"):
        kept.admit("a", limits)
    poll = kept.admit("a", limits, poll=True)
    with pytest.raises(RateLimited, match="long polls"):
        kept.admit("a", limits, poll=True)
    first.take(90)
    with pytest.raises(RateLimited, match="bytes of bodies"):
        second.take(20)
    kept.admit("b", limits).take(100)
    for ticket in (first, second, poll):
        ticket.close()
    assert set(kept.flying) == {"b"}
    # one body may be all that there is
    kept.admit("a", limits).take(1000)


def test_an_address_that_is_wrong_too_often_waits() -> None:
    now = 0.0
    kept = Budgets(lambda: now)
    for _ in range(ADDRESS_BURST):
        kept.check_address("x")
        kept.wrong("x")
    with pytest.raises(RateLimited):
        kept.check_address("x")
    kept.check_address("y")
    now += 1
    kept.check_address("x")


def test_polls_of_a_key_are_capped(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "KEY", Limits(64, 2**30, 2))
    api.deploy()
    run = api.trigger()["id"]
    done: list[int] = []

    def wait() -> None:
        with api.client("admin-key-for-tests-0123") as client:
            # until it has a place: the one who looks takes one too, for a moment
            while (status := client.get(f"/api/v1/runs/{run}/wait", params={"timeout": 30}).status_code) == 429:
                pass
            done.append(status)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    path = f"/api/v1/runs/{run}/wait"
    refused = eventually(
        lambda: (a := api.admin.get(path, params={"timeout": 0})).status_code == 429 and a, "the polls to be held"
    )
    assert int(refused.headers["Retry-After"]) >= 1
    assert api.admin.get(f"/api/v1/runs/{run}").status_code == 200
    ok(api.admin.post(f"/api/v1/runs/{run}/cancel"))
    for thread in threads:
        thread.join()
    assert done == [200, 200]


def test_a_token_is_looked_up_before_its_body_is_read(api: Api) -> None:
    answer = api.client(None).post("/tokens/tok_none", content=b"[" * 500_000)
    error(answer, 404, "unknown_token")
