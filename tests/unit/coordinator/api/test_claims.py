"""Claims that are held: who is woken by what, and how often anybody looks."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.attempts import claims
from coordinator.line import emptiness
from coordinator.line.emptiness import Emptiness
from coordinator.signals.waking import CLAIMS, FREED, Waking
from tests.conformance.store import queue, task_entry
from tests.unit.coordinator.conftest import HOST, Api, ok
from tests.waiting import eventually

GIB = 1024**3


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whoever has looked along the line. What is known of it is believed for as long as a test takes."""
    seen: list[str] = []
    claim = claims.claim

    def counted(conn: Any, now: float, runner: str, *rest: Any) -> Any:
        seen.append(runner)
        return claim(conn, now, runner, *rest)

    monkeypatch.setattr(claims, "claim", counted)
    monkeypatch.setattr(emptiness, "_BELIEVED", 3600.0)
    return seen


def test_a_run_is_looked_for_once(api: Api, looks: list[str]) -> None:
    api.deploy()
    with ThreadPoolExecutor(1) as threads:

        def held() -> Future[dict[str, Any]]:
            return threads.submit(api.claim, timeout=60)

        claiming = held()
        eventually(lambda: looks, "the first look")
        del looks[:]
        for _ in range(5):
            api.trigger()
            (assignment,) = claiming.result(60)["assignments"]
            claiming = held()
            ok(api.attempt(assignment, "start", start="warm"))
            ok(api.attempt(assignment, "finish", outcome="completed", result=1))
        # none for the claim that came after it, and none for the place that it has freed
        assert looks == ["r1"] * 5
        api.trigger()
        claiming.result(60)


def test_what_waits_for_a_place_is_looked_for_when_one_is_free(api: Api, looks: list[str]) -> None:
    api.deploy(task_entry("narrow", queue=queue(concurrency=1)))
    for _ in range(2):
        api.trigger("narrow")
    first = api.claim_one()
    assert api.claim()["assignments"] == []
    with ThreadPoolExecutor(1) as threads:
        claiming = threads.submit(api.claim, timeout=60)
        ok(api.attempt(first, "start", start="warm"))
        ok(api.attempt(first, "finish", outcome="completed", result=1))
        (second,) = claiming.result(60)["assignments"]
    assert second["run"] != first["run"]


def test_an_empty_line_is_believed_until_it_grows_and_not_for_long() -> None:
    waking = Waking()
    line = Emptiness(waking)
    before = line.looking()
    assert not line.known("r1", (GIB, 1), 0.0)
    line.found(before, "r1", (GIB, 1), 0.0, empty=True)
    assert line.known("r1", (GIB, 1), 0.5)
    # with more room it is another question, and who has not been heard at all has to be
    assert not line.known("r1", (2 * GIB, 1), 0.5)
    assert not line.known("r2", (GIB, 1), 0.5)
    assert not line.known("r1", (GIB, 1), 1.0)
    waking.notify(FREED)
    assert line.known("r1", (GIB, 1), 0.5)
    waking.notify(CLAIMS)
    assert not line.known("r1", (GIB, 1), 0.5)


def test_what_comes_into_the_line_during_a_look_is_not_missed() -> None:
    waking = Waking()
    line = Emptiness(waking)
    before = line.looking()
    waking.wake(CLAIMS)
    line.found(before, "r1", HOST["slots"], 0.0, empty=True)
    assert not line.known("r1", HOST["slots"], 0.0)
    before = line.looking()
    waking.wake_all()
    line.found(before, "r1", HOST["slots"], 0.0, empty=True)
    assert not line.known("r1", HOST["slots"], 0.0)
