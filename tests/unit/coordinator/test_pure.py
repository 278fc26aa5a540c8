"""The parts that need no database: retries, payload messages, secrets, waking."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.access.keys import AttemptSecrets, BadKey
from coordinator.foundation import ids
from coordinator.foundation.errors import Invalid, TooLarge
from coordinator.foundation.limits import MAX_DEPTH, PLATFORM_RETRIES
from coordinator.signals.waking import Waking
from coordinator.storage.values import decode, digest, encode
from coordinator.tasks.payloads import Payloads
from coordinator.tasks.retries import End, Policy, SoFar, backoff, decide
from coordinator.wire import AdoptReply, Assignment, StoredValue, TaskLimits

ENDS: list[End] = ["completed", "failed", "out_of_memory", "timed_out", "canceled", "rejected", "lost"]


def test_backoff_doubles_to_its_limit() -> None:
    policy = Policy(max_attempts=9, factor=2, min_delay=1, max_delay=10, jitter=False)
    assert [backoff(policy, n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert backoff(policy, 10_000) == 10


def test_jitter_is_between_half_and_whole() -> None:
    policy = Policy(factor=1, min_delay=8)
    assert [backoff(policy, 1, lambda r=r: r) for r in (0.0, 0.5, 1.0)] == [4, 6, 8]  # type: ignore[misc]


@pytest.mark.parametrize(("end", "cancel", "failures"), list(product(ENDS, (False, True), (0, 1, 2))))
def test_every_end_has_one_fate(end: End, cancel: bool, failures: int) -> None:
    policy = Policy(max_attempts=3, jitter=False)
    verdict = decide(end, SoFar(memory=100, failures=failures, cancel_requested=cancel), policy)
    if end == "completed":
        expected = "completed"
    elif cancel:
        expected = "canceled"
    elif end in ("lost", "canceled"):
        expected = "queued"
    elif end == "rejected":
        expected = "failed"
    elif failures < 2:
        expected = "delayed"
    else:
        expected = "timed_out" if end == "timed_out" else "failed"
    assert verdict.status == expected
    assert (verdict.delay > 0) == (expected == "delayed")
    consumed = end in ("failed", "out_of_memory", "timed_out", "rejected")
    assert verdict.failures == failures + consumed


def test_a_retry_at_once_is_queued() -> None:
    verdict = decide("failed", SoFar(memory=1), Policy(max_attempts=2), retry_after=0.0)
    assert (verdict.status, verdict.delay) == ("queued", 0)


def test_the_platforms_budget_ends() -> None:
    so_far = SoFar(memory=1, losses=PLATFORM_RETRIES - 1)
    assert decide("lost", so_far, Policy()).status == "delayed"
    assert decide("lost", SoFar(memory=1, losses=PLATFORM_RETRIES), Policy()).status == "failed"


@pytest.mark.parametrize(
    ("memory", "ooms", "largest", "expected"),
    [
        (100, 0, None, ("delayed", 400)),
        (100, 0, 200, ("delayed", 200)),
        (100, 0, 50, ("delayed", 100)),
        (400, 0, None, ("delayed", 400)),
        (400, 1, None, ("failed", 400)),
    ],
)
def test_memory_after_running_out_of_it(
    memory: int, ooms: int, largest: int | None, expected: tuple[str, int]
) -> None:
    policy = Policy(max_attempts=5, oom_memory=400)
    verdict = decide("out_of_memory", SoFar(memory=memory, ooms=ooms), policy, largest_memory=largest)
    assert (verdict.status, verdict.memory) == expected


# ---------------------------------------------------------------- payloads


def problems(schema: dict[str, Any], payload: dict[str, Any]) -> dict[str, str]:
    text = json.dumps(schema)
    try:
        Payloads().check("d", "t", text, payload)
    except Invalid as error:
        return {field.path: field.message for field in error.fields}
    return {}


def field(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "payload", "expected"),
    [
        (field({"type": "integer"}), {"x": 1}, {}),
        (field({"type": "integer"}), {"x": 1.5}, {"x": "1.5 is not an integer"}),
        (field({"type": "integer"}), {"x": None}, {"x": "null is not an integer"}),
        (field({"type": ["integer", "null"]}), {"x": "a"}, {"x": "'a' is not an integer or null"}),
        (
            field({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
            {"x": "a"},
            {"x": "'a' is not an integer or null"},
        ),
        (
            field({"anyOf": [{"type": "object", "required": ["y"]}, {"type": "null"}]}),
            {"x": {}},
            {"x.y": "missing"},
        ),
        (field({"enum": ["a", "b"]}), {"x": "c"}, {"x": "'c' is none of 'a', 'b'"}),
        (field({"type": "string", "format": "uuid"}), {"x": "c"}, {"x": "'c' is not a uuid"}),
        (field({"type": "string"}), {"xx": 1}, {"xx": "unknown; did you mean 'x'?"}),
        (
            field({"type": "array", "items": {"type": "object", "required": ["qty"]}}),
            {"x": [{"qty": 1}, {}]},
            {"x[1].qty": "missing"},
        ),
        (
            {"$defs": {"I": {"type": "object", "required": ["a", "b"]}}, **field({"$ref": "#/$defs/I"})},
            {"x": {}},
            {"x.a": "missing", "x.b": "missing"},
        ),
        (field({"type": "integer", "minimum": 3}), {"x": 1}, {"x": "1 is less than the minimum of 3"}),
    ],
)
def test_payload_problems_read_well(
    schema: dict[str, Any], payload: dict[str, Any], expected: dict[str, str]
) -> None:
    assert problems(schema, payload) == expected


def test_a_huge_value_is_shown_short() -> None:
    (message,) = problems(field({"type": "integer"}), {"x": "a" * 100_000}).values()
    assert len(message) < 200


def test_a_payload_nested_without_end_is_a_problem_not_a_crash() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Invalid):
        encode({"x": deep}, "payload")
    schema = {"$defs": {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}}, **field({"$ref": "#/$defs/L"})}
    for _ in range(99_000):
        deep = deep[0]
    assert problems(schema, {"x": deep})


# ---------------------------------------------------------------- values, secrets, ids, waking

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_values_come_back_as_they_were(value: Any) -> None:
    encoded = encode(value, "x")
    assert decode(encoded.text) == value
    assert encoded.size == len(encoded.text.encode())


def test_long_values_come_back_as_they_were() -> None:
    value = {
        "n": [1, -0.0, 1e16, 1e-7, 5e-324, 10**30, 2**53 + 1, None, True],
        "é": "NaN, Infinity: \u2028\0\\ " * 2000,
    }
    for each in (value, {"n": value["n"], "x": "x" * 100_000}):
        encoded = encode(each, "x")
        assert repr(decode(encoded.text)) == repr(decode(encoded.text.encode())) == repr(each)
        assert encoded.size == len(encoded.text.encode())


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", {1, 2}, [1, -float("inf"), "x" * 10_000], {"a": {"b": "\udfff"}}],
)
def test_what_is_no_json_is_named(value: Any) -> None:
    with pytest.raises(Invalid, match="result"):
        encode(value, "result")


def test_the_limit_is_in_bytes() -> None:
    assert encode("ä" * 4, "x", limit=10).size == 10
    with pytest.raises(TooLarge, match="12 bytes as JSON, the limit is 10"):
        encode("ä" * 5, "x", limit=10)


def test_what_is_taken_can_be_parsed_by_those_who_get_it_next() -> None:
    """A payload beyond the depth of the runner's parser would make every claim and every restart of it fail."""
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    text = encode(deep, "payload").text
    wide = encode([[1]] * 1000, "payload")
    assert decode(wide.text) == [[1]] * 1000
    kept = StoredValue(key="k", value=decode(text))
    limits = TaskLimits(memory=1, cpu=1, timeout=1, warm=True)
    made = Assignment(
        attempt="a", token=1, secret="s", run="r", number=1, project="p", task="t", version="v", deployment="d",
        image="i", payload=decode(text), checkpoints=[kept], limits=limits, trace_id="0", lease=1,
    )  # fmt: skip
    reply = AdoptReply(assignments=[made])
    assert AdoptReply.model_validate_json(reply.model_dump_json()) == reply
    with pytest.raises(Invalid, match="payload: is nested more than 150 deep"):
        encode([deep], "payload")


def test_a_digest_does_not_mind_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})


def test_an_attempts_secret_is_good_for_it_alone(tmp_path: Path) -> None:
    secrets = AttemptSecrets(tmp_path)
    secret = secrets.make("att_1", 1)
    assert secrets.check("att_1", secret)
    for attempt, other in (
        ("att_2", secret),
        ("att_1", secrets.make("att_1", 2).replace("2.", "1.", 1)),
        ("att_1", secret[:-1]),
        ("att_1", ""),
        ("att_1", "١." + secret.partition(".")[2]),
    ):
        assert not secrets.check(attempt, other)
    assert AttemptSecrets(tmp_path).check("att_1", secret)
    (tmp_path / "other").mkdir()
    assert not AttemptSecrets(tmp_path / "other").check("att_1", secret)


def test_a_damaged_secret_is_said(tmp_path: Path) -> None:
    (tmp_path / "server-secret").write_bytes(b"")
    with pytest.raises(BadKey, match="is damaged"):
        AttemptSecrets(tmp_path)


def test_ids_sort_as_they_were_made_and_do_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [ids.event() for _ in range(1000)]
    monkeypatch.setattr(ids.time, "time", lambda: 1_000_000.0)  # the clock was set back
    made += [ids.event() for _ in range(1000)]
    assert made == sorted(set(made))
    with ThreadPoolExecutor(8) as pool:
        by_thread = list(pool.map(lambda _: [ids.event() for _ in range(1000)], range(8)))
    assert all(part == sorted(part) for part in by_thread)
    assert len({made for part in by_thread for made in part}) == 8000


def test_the_ids_of_a_time_and_later_sort_after_its_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    soon = time.time() + 3600
    made = [ids.run(soon), ids.run(soon + 0.001), ids.run(soon)]
    assert ids.least("run", soon - 0.001) < ids.least("run", soon) <= made[0]
    assert made[0] < ids.least("run", soon + 0.001) <= made[1] < made[2]
    assert ids.least("run", -5.0) == "run_" + "0" * 26


def test_a_wake_between_the_look_and_the_wait_is_not_missed() -> None:
    async def scene() -> None:
        waking = Waking()
        with waking.listen("a", "b") as event:
            event.clear()
            waking.notify("b")
            await asyncio.wait_for(event.wait(), 5)
        with waking.listen("a") as event:
            waking.notify("c")
            assert not event.is_set()
            waking.close()
            await asyncio.wait_for(event.wait(), 5)
        waking.notify("a")  # to nobody

    asyncio.run(scene())
