"""Who did what stands in the audit: in the change's own transaction, within the project, and without any value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.access.audit import Refusals
from coordinator.api import acts
from coordinator.maintenance import retention
from tests.conformance.store import task_entry
from tests.security.attempts import attempt
from tests.security.clients import MINE, THEIRS, Seat, seat
from tests.unit.coordinator.conftest import error, ok, source

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    with seat(tmp_path_factory.mktemp("audit") / "data") as made:
        yield made


def entries(here: Seat, **wanted: Any) -> list[Entry]:
    return list(ok(here.api.admin.get("/api/v1/audit", params={"limit": 500, **wanted}))["items"])


def latest(here: Seat, action: str) -> Entry:
    return entries(here, action=action)[0]


def test_every_request_that_changes_something_is_named(here: Seat) -> None:
    paths = ok(here.api.admin.get("/openapi.json"))["paths"]
    without = [
        f"{method} {path}"
        for path, methods in paths.items()
        for method in (m.upper() for m in methods)
        if method != "GET"
        and not path.startswith("/hooks/")
        and not path.endswith("/check")  # which changes nothing
        and acts.act(method, re.sub(r"\{[^}]+\}", "x", path), {}, "", None) is None
    ]
    assert not without, "give them a line in coordinator/api/acts.py"


@attempt("client", "a change without a trace", "the audit, in the change's own transaction", "an entry")
def test_what_is_done_is_noted_with_who_and_from_where(here: Seat) -> None:
    admin = here.api.admin
    with here.api.client(here.keys["trigger"]) as client:
        run = ok(client.post("/api/v1/tasks/greet/runs", json={"payload": {"hidden": "value"}}))["id"]
        ok(client.post("/api/v1/tasks/greet/runs/batch", json={"items": [{}, {}, {}]}))
        ok(client.post("/api/v1/events", json={"name": "paid", "payload": {"hidden": "value"}}))
    found = latest(here, "run.trigger")
    assert (found["key"], found["role"], found["project"]) == ("trigger", "trigger", MINE)
    assert (found["target"], found["address"], found["outcome"]) == (run, "127.0.0.1", "done")
    assert latest(here, "run.trigger_batch")["detail"]["runs"] == 3
    assert latest(here, "event.send")["project"] == MINE

    ok(admin.post(f"/api/v1/runs/{run}/cancel"))
    assert (latest(here, "run.cancel")["target"], latest(here, "run.cancel")["project"]) == (run, MINE)
    again = ok(admin.post(f"/api/v1/runs/{run}/replay", json={}))["id"]
    assert (latest(here, "run.replay")["target"], latest(here, "run.replay")["detail"]["of"]) == (again, run)
    ok(admin.post(f"/api/v1/runs/{again}/dismiss"))
    ok(admin.post("/api/v1/runs/cancel", json={"filter": {"runs": [again]}}))
    assert (latest(here, "run.cancel")["target"], latest(here, "run.cancel")["detail"]["bulk"]) == (again, True)

    ok(admin.put(f"/api/v1/secrets/KEY?project={MINE}", json={"value": "hidden value"}))
    ok(admin.delete(f"/api/v1/secrets/KEY?project={MINE}"))
    for action in ("secret.set", "secret.remove"):
        assert (latest(here, action)["detail"].get("name") or latest(here, action)["target"]) == "KEY"
        assert latest(here, action)["project"] == MINE
    ok(admin.patch(f"/api/v1/queues/zqueuename?project={THEIRS}", json={"concurrency": 3}))
    assert latest(here, "queue.change")["project"] == THEIRS
    assert latest(here, "queue.change")["detail"]["concurrency"] == 3
    made = ok(admin.post("/api/v1/keys", json={"name": "audited", "role": "read"}))
    ok(admin.delete("/api/v1/keys/audited"))
    assert latest(here, "key.create")["target"] == latest(here, "key.revoke")["target"] == made["id"]
    ok(admin.patch(f"/api/v1/schedules/{here.theirs['schedule']}", json={"paused": True}))
    assert latest(here, "schedule.change")["project"] == THEIRS
    deployed = here.api.deploy(task_entry("greet"), project=MINE)["id"]
    assert (latest(here, "deployment.create")["target"], latest(here, "deployment.create")["project"]) == (
        deployed,
        MINE,
    )
    ok(admin.post(f"/api/v1/projects/{MINE}/rollback"))
    ok(admin.post(f"/api/v1/deployments/{deployed}/promote"))
    assert latest(here, "deployment.rollback")["project"] == latest(here, "deployment.promote")["project"] == MINE
    token = ok(admin.post("/api/v1/hosts/token", json={}))["token"]
    with here.api.client(token) as client:
        ok(client.post("/internal/v1/runners/r-audit/enrol", json={"hash": "0" * 64}))
    assert latest(here, "host.enrol")["target"] == "r-audit"

    text = str(entries(here))
    assert "hidden" not in text
    assert made["key"] not in text
    assert token not in text


@attempt("client", "a change that fails is noted as done", "one transaction for both", "no entry")
def test_what_was_not_done_is_not_noted(here: Seat) -> None:
    before = len(entries(here))
    error(here.api.admin.post("/api/v1/tasks/nothing/runs", json={}), 404, "unknown_task")
    error(here.api.admin.post("/api/v1/runs/run_x/cancel"), 404, "not_found")
    error(here.api.admin.post("/api/v1/keys", json={"name": "trigger"}), 409, "key_exists")
    assert here.api.admin.delete("/api/v1/keys/settings:admin").status_code == 409
    assert len(entries(here)) == before


@attempt("client", "what a key may not do, tried unseen", "refusals are in the audit, so many a minute", "an entry")
def test_refusals_are_noted(here: Seat) -> None:
    with here.api.client(here.keys["read"]) as client:
        for _ in range(40):
            error(client.post("/api/v1/tasks/greet/runs", json={}), 403, "forbidden")
    found = entries(here, outcome="refused", key="read")
    assert 0 < len(found) <= 20
    assert (found[0]["action"], found[0]["project"]) == ("run.trigger", MINE)
    with here.api.client(here.keys["admin"]) as client:
        error(client.post(f"/api/v1/runs/{here.theirs['run']}/cancel"), 404, "not_found")
        error(client.get("/api/v1/keys"), 403, "forbidden")
        # refused by the route: an archive of another project
        assert client.post("/api/v1/deployments", content=source(THEIRS)).status_code == 403
    actions = {entry["action"] for entry in entries(here, outcome="refused", key="admin")}
    assert {"run.cancel", "GET /api/v1/keys", "deployment.create"} <= actions


def test_refusals_of_one_key_are_counted_beyond_a_number() -> None:
    refusals = Refusals()
    answers = [refusals.admit("key") for _ in range(50)]
    assert answers[:20] == [0] * 20
    assert answers[20:] == [None] * 30
    assert refusals.admit("other") == 0


@attempt("client", "reads another project's audit", "a key sees its project's entries", "only its own")
@pytest.mark.parametrize("role", ["admin", "read", "trigger"])
def test_a_projects_key_sees_its_own(here: Seat, role: str) -> None:
    here.api.trigger(f"{THEIRS}/ztaskname")
    with here.api.client(here.keys[role]) as client:
        if role == "trigger":
            error(client.get("/api/v1/audit"), 403, "forbidden")
            return
        found = ok(client.get("/api/v1/audit?limit=500"))["items"]
        assert {entry["project"] for entry in found} <= {MINE}
        assert THEIRS not in str(found)
        error(client.get(f"/api/v1/audit?project={THEIRS}"), 404, "not_found")


@attempt("client", "names of a megabyte, NULs and halves of characters in the audit", "cut to a length", "an entry")
def test_hostile_names_are_cut(here: Seat) -> None:
    with here.api.client(here.keys["trigger"]) as client:
        for name in ("x" * 5000, "a%00b", "%ed%a0%80", "%ff"):
            assert client.delete(f"/api/v1/secrets/{name}").status_code == 403
    found = entries(here, action="secret.remove", outcome="refused")
    assert len(found) == 4
    assert all(len(entry["target"]) <= 256 and "\0" not in entry["target"] for entry in found)


def test_pages_and_filters(here: Seat) -> None:
    everything = [entry["id"] for entry in entries(here)]
    page, seen = None, []
    while True:
        answer = ok(here.api.admin.get("/api/v1/audit", params={"limit": 7, **({"cursor": page} if page else {})}))
        seen += [entry["id"] for entry in answer["items"]]
        page = answer["next"]
        if page is None:
            break
    assert seen == everything == sorted(everything, reverse=True)
    assert entries(here, since="1h")
    assert not entries(here, since="2099-01-01")


def test_old_entries_go_by_a_time_of_their_own(here: Seat) -> None:
    (kind,) = [kind for kind in retention.KINDS if kind.name == "audit"]
    count = len(entries(here))
    core = here.core
    kept = core.settings.model_copy(update={"retention_runs": 0.001})
    assert core.database.write_now(retention.run_once, kind, kept, core.blobs).removed == 0
    brief = core.settings.model_copy(update={"retention_audit": 1e-6})
    assert core.database.write_now(retention.run_once, kind, brief, core.blobs).removed == count
    assert not entries(here)
