"""Triggers at a steady rate, whatever the answers take; and how soon a waiting runner has what was triggered."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from samovar import Client

from bench.coordinator import DATABASES, coordinator
from bench.figures import Outcome, Series, Target
from tests.conformance.store import MIB, task_entry
from tests.unit.coordinator.conftest import ADMIN, Api

RATE = 100.0
ANSWER_MS, ANSWER_P99_MS, CLAIMED_MS = 5.0, 25.0, 10.0
_THREADS = 16
_HOST = 2**50 // 4


def trigger(count: int) -> Outcome:
    """`count` triggers at RATE on each database, and a hundred that a held claim waits for."""
    mine: list[Series] = []
    peers: list[Series] = []
    targets: list[Target] = []
    for kind in DATABASES:
        steady, soon, floor = measure(kind, count)
        floor.against = len(mine)
        mine += [steady, soon]
        peers.append(floor)
        targets += [
            Target(f"{kind}: trigger, median", steady.median, ANSWER_MS, "ms"),
            Target(f"{kind}: trigger, p99", steady.percentile(99), ANSWER_P99_MS, "ms"),
            Target(f"{kind}: claimed, median", soon.median, CLAIMED_MS, "ms"),
        ]
    notes = ["a trigger counts from the time when it was due, so a late answer does not excuse the next"]
    return Outcome("trigger", "a trigger over HTTP, durable when it is answered", mine, peers, targets, notes=notes)


def measure(kind: str, count: int) -> tuple[Series, Series, Series]:
    """Answers at RATE, claims of what was triggered, and the floor: the least that the same server answers."""
    steady = Series(f"{kind}: trigger answered, at {RATE:g}/s", "ms")
    soon = Series(f"{kind}: answer to the trigger → answer to the claim", "ms")
    floor = Series(f"{kind}: GET /healthz, one at a time", "ms")
    with coordinator(kind) as api:
        api.deploy(task_entry("trivial", memory=64 * MIB), task_entry("claimed", memory=64 * MIB))
        for _ in range(min(count, 200)):
            began = time.perf_counter()
            api.admin.get("/healthz").raise_for_status()
            floor.add(1000 * (time.perf_counter() - began))
        for _ in range(min(20, count // 4)):
            _played(api, "claimed")
        for _ in range(min(100, count // 4)):
            soon.add(_played(api, "claimed"))
        _at_a_rate(api, min(count, 50))
        for took in _at_a_rate(api, count):
            steady.add(took)
    return steady, soon, floor


def _at_a_rate(api: Api, count: int) -> list[float]:
    """Milliseconds from when each trigger was due to its answer."""
    took = [0.0] * count
    begin = time.perf_counter() + 0.1

    def send(first: int) -> None:
        with Client(api.url, ADMIN) as client:
            for number in range(first, count, _THREADS):
                due = begin + number / RATE
                time.sleep(max(0.0, due - time.perf_counter()))
                client.trigger("trivial", {"number": number})
                took[number] = 1000 * (time.perf_counter() - due)

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(send, range(_THREADS)))
    return took


def _played(api: Api, task: str) -> float:
    """Milliseconds from the answer to a trigger to the answer to the claim that was held; the run is then ended."""
    answers: list[tuple[float, dict[str, Any]]] = []

    def claim() -> None:
        assignment = api.claim_one(memory=_HOST)
        answers.append((time.perf_counter(), assignment))

    runner = threading.Thread(target=claim)
    runner.start()
    time.sleep(0.02)  # by then the claim has looked, found nothing and is held
    api.trigger(task)
    triggered = time.perf_counter()
    runner.join()
    (claimed, assignment) = answers[0]
    for action, body in (("start", {"start": "warm"}), ("finish", {"outcome": "completed", "result": 1})):
        api.attempt(assignment, action, **body).raise_for_status()
    return 1000 * (claimed - triggered)
