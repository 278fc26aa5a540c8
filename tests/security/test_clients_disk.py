"""What one project fills is its own: runs, trees and bytes have limits, and the disk keeps some room."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.security.attempts import attempt
from tests.security.clients import THEIRS, Seat, seat
from tests.unit.coordinator.conftest import error, ok
from tests.waiting import eventually

GREET = "minimine/greet"


@dataclass
class Disk:
    free: int = 2**40

    def __call__(self) -> int:
        return self.free


@pytest.fixture(scope="module")
def seated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    with seat(tmp_path_factory.mktemp("disk") / "data") as made:
        yield made


@pytest.fixture
def here(seated: Seat) -> Iterator[Seat]:
    limits = seated.core.database.quota
    assert limits is not None
    limits.project_bytes, limits.project_runs, limits.tree_runs, limits.free = 0, 0, 0, Disk()
    limits._counted.clear()
    limits._space = (0.0, 0)
    ok(seated.api.admin.post("/api/v1/runs/cancel", json={"filter": {"project": "minimine"}}))
    yield seated
    limits.free, limits._space = Disk(), (0.0, 0)


def limit(here: Seat, **limits: Any) -> None:
    for name, value in limits.items():
        setattr(here.core.database.quota, name, value)
    here.core.database.quota._space = (0.0, 0)  # type: ignore[union-attr]


def trigger(here: Seat, task: str = GREET, **body: Any) -> Any:
    return here.api.admin.post(f"/api/v1/tasks/{task}/runs", json=body)


def claimed(here: Seat, **body: Any) -> dict[str, Any]:
    run = ok(trigger(here, priority=1000, **body))["id"]
    while True:
        assignment = here.api.claim_one(most=1)
        if assignment["run"] == run:
            ok(here.api.attempt(assignment, "start", start="cold"))
            return assignment


@attempt("neighbour", "triggers runs without end", "a number of runs that have not ended, per project", "429")
def test_runs_of_a_project(here: Seat) -> None:
    limit(here, project_runs=5)
    made = [ok(trigger(here))["id"] for _ in range(5)]
    refused = error(trigger(here), 429, "too_many_runs")
    assert "PROJECT_RUNS" in refused["message"]
    batch = here.api.admin.post(f"/api/v1/tasks/{GREET}/runs/batch", json={"items": [{}, {}]})
    error(batch, 429, "too_many_runs")
    # another project goes on, and so does this one when a run has ended
    ok(trigger(here, f"{THEIRS}/ztaskname"))
    ok(here.api.admin.post(f"/api/v1/runs/{made[0]}/cancel"))
    # counted anew as often as that is cheap: on a busy machine not at once
    eventually(lambda: trigger(here).is_success, "room for one more run")
    error(trigger(here), 429, "too_many_runs")


@attempt("neighbour", "a run whose children have children without end", "a number of runs per tree", "429")
def test_runs_of_a_tree(here: Seat) -> None:
    limit(here, tree_runs=4)
    parent = claimed(here)
    for number in range(3):
        spec = {"task": "greet", "payload": {}}
        body = {"key": f"t{number}", "kind": "trigger", "name": "greet", "spec": spec}
        ok(here.api.attempt(parent, "wait", **body))
    refused = error(here.api.attempt(parent, "wait", **{**body, "key": "one-more"}), 429, "too_many_runs")
    assert "TREE_RUNS" in refused["message"]
    ok(trigger(here))
    ok(here.api.attempt(parent, "finish", outcome="completed", result=None))


@attempt("neighbour", "payloads and checkpoints without end", "bytes of a project", "429")
def test_bytes_of_a_project(here: Seat) -> None:
    taken = claimed(here)
    limit(here, project_bytes=200_000)
    ok(here.api.attempt(taken, "checkpoint", key="a", value="x" * 90_000))
    ok(trigger(here, payload={"name": "x" * 60_000}))
    refused = error(here.api.attempt(taken, "checkpoint", key="b", value="x" * 90_000), 429, "project_full")
    assert "PROJECT_BYTES" in refused["message"]
    error(trigger(here, payload={"name": "x" * 90_000}), 429, "project_full")
    # counted anew, it is the same: what is live counts as what has ended
    here.core.database.quota._counted.clear()  # type: ignore[union-attr]
    error(trigger(here, payload={"name": "x" * 90_000}), 429, "project_full")
    # a result that has no room ends the run all the same, and says why
    ok(here.api.attempt(taken, "finish", outcome="completed", result="x" * 90_000))
    run = here.api.run(taken["run"])
    assert (run["status"], run["error"]["type"]) == ("failed", "ResultNotStored")
    here.core.database.quota._counted.clear()  # type: ignore[union-attr]
    error(trigger(here, payload={"name": "x" * 90_000}), 429, "project_full")
    ok(trigger(here, f"{THEIRS}/ztaskname", payload={"name": "x" * 90_000}))


@attempt("neighbour", "events, deliveries and secrets without end", "bytes of a project", "429")
def test_what_is_sent_to_a_project_counts(here: Seat) -> None:
    def send(name: str, size: int, **given: Any) -> Any:
        body = {"name": name, "payload": {"text": "x" * size}, "project": THEIRS, **given}
        return here.api.admin.post("/api/v1/events", json=body)

    def deliver(size: int) -> Any:
        body = json.dumps({"text": "x" * size}).encode()
        signature = hmac.new(b"a long secret of theirs", body, hashlib.sha256).hexdigest()
        headers = {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": uuid.uuid4().hex}
        with here.api.client(None) as client:
            return client.post(f"/hooks/{THEIRS}/zhookpath", content=body, headers=headers)

    def keep(name: str, size: int) -> Any:
        return here.api.admin.put(f"/api/v1/secrets/{name}?project={THEIRS}", json={"value": "x" * size})

    limits = here.core.database.quota
    assert limits is not None
    # nobody listens to this one, and it is kept all the same
    sends = {"event": lambda size: send("unheard", size), "delivery": deliver}
    sends["secret"] = lambda size: keep(f"S{uuid.uuid4().hex}", size)
    ok(send("unheard", 10, id="known"))
    ok(keep("kept", 10))
    for name, more in sends.items():
        limits._counted.clear()
        before = here.core.database.read_now(lambda conn, now: limits._bytes_of(conn, THEIRS))
        ok(more(40_000))
        after = here.core.database.read_now(lambda conn, now: limits._bytes_of(conn, THEIRS))
        # of a delivery its run has the payload as well
        assert after - before >= (80_000 if name == "delivery" else 40_000), name
        limit(here, project_bytes=after + 30_000)
        refused = error(more(40_000), 429, "project_full")
        assert "PROJECT_BYTES" in refused["message"], name
        limits._counted.clear()
        assert here.core.database.read_now(lambda conn, now: limits._bytes_of(conn, THEIRS)) == after, name
        # what was taken before is answered as it was, and a secret that is there can be changed
        ok(send("unheard", 10, id="known"))
        ok(keep("kept", 40_000 if name == "secret" else 10))
        limit(here, project_bytes=0)


@attempt("neighbour", "fills the disk that the database is on", "a mark below which nothing new is taken", "503")
def test_the_disk_keeps_room(here: Seat) -> None:
    taken, other = claimed(here), claimed(here)
    limit(here, free=Disk(1000), least_free=2000)
    answer = trigger(here)
    assert "1000 bytes free" in error(answer, 503, "disk_full")["message"]
    assert int(answer.headers["Retry-After"]) > 0
    error(here.api.attempt(taken, "checkpoint", key="a", value=1), 503, "disk_full")
    error(here.api.admin.get("/readyz"), 503, "disk_full")
    # what is under way ends, and can be ended and removed
    ok(here.api.attempt(taken, "logs", lines=[]))
    ok(here.api.attempt(taken, "finish", outcome="completed", result="small"))
    assert here.api.run(taken["run"])["status"] == "completed"
    ok(here.api.attempt(other, "finish", outcome="completed", result="x" * 5000))
    assert here.api.run(other["run"])["error"]["type"] == "ResultNotStored"
    ok(here.api.admin.post(f"/api/v1/runs/{other['run']}/dismiss"))
    limit(here, free=Disk())
    ok(trigger(here))
    ok(here.api.admin.get("/readyz"))


def test_what_is_counted_is_not_counted_at_each_write(here: Seat) -> None:
    limit(here, project_runs=1000, project_bytes=10**9)
    limits = here.core.database.quota
    assert limits is not None
    counted: list[str] = []
    bytes_of = limits._bytes_of
    limits._bytes_of = lambda conn, project: (counted.append(project), bytes_of(conn, project))[1]  # type: ignore[method-assign]
    try:
        for _ in range(30):
            ok(trigger(here, payload={"name": "x" * 100}))
    finally:
        del limits._bytes_of
    assert len(counted) == 1
