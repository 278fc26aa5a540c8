"""Events over HTTP: what is answered, what is refused, and what a deployment may listen to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, error, ok, source

PATH = "/api/v1/events"


def entry(id: str = "ship", where: Any = None, required: tuple[str, ...] = ()) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"event": {}, "event_id": {}}, "required": list(required)}
    return task_entry(id, schema, on_event=[{"name": "order.paid", "where": where}])


def test_a_sent_event_answers_its_runs_and_wakes_a_claim(api: Api) -> None:
    api.deploy(entry(), entry("large", {"amount": {"gt": 10}}))
    answer = api.admin.post(PATH, json={"name": "order.paid", "payload": {"amount": 3}, "id": "e1"})
    assert answer.status_code == 201
    event = answer.json()
    (run,) = event["runs"]
    assert event | {"created_at": "", "runs": []} == {
        "id": "e1",
        "name": "order.paid",
        "project": None,
        "payload": {"amount": 3},
        "created_at": "",
        "runs": [],
        "problems": [],
    }
    assert (run["project"], run["task"]) == ("orders", "ship")
    assert api.run(run["id"])["payload"] == {"event": {"amount": 3}, "event_id": "e1"}
    assert api.claim_one()["run"] == run["id"]

    again = api.admin.post(PATH, json={"name": "order.paid", "payload": {"amount": 3}, "id": "e1"})
    assert (again.status_code, again.json()) == (200, event)
    changed = api.admin.post(PATH, json={"name": "order.paid", "payload": {"amount": 4}, "id": "e1"})
    error(changed, 409, "event_conflict")

    # without an id it has one of its own, and payload is anything
    bare = ok(api.admin.post(PATH, json={"name": "order.paid", "payload": [1]}))
    assert (bare["id"][:4], bare["payload"], len(bare["runs"])) == ("evt_", [1], 1)
    page = ok(api.admin.get(PATH, params={"limit": 1}))
    assert [item["id"] for item in page["items"]] == [bare["id"]]
    assert ok(api.admin.get(PATH, params={"cursor": page["next"], "name": "order.paid"}))["items"] == [event]


def test_ten_megabytes_are_refused_naming_the_limit(api: Api) -> None:
    api.deploy(entry())
    answer = api.admin.post(PATH, json={"name": "order.paid", "payload": {"text": "x" * 10 * 1024 * 1024}})
    assert "the limit is 524288" in error(answer, 413, "too_large")["message"]
    assert ok(api.admin.get(PATH))["items"] == []
    assert ok(api.admin.get("/api/v1/runs"))["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "a", "id": ""}, "id"),
        ({"name": "a", "where": {}}, "where"),
        ({"name": "a", "payload": {"x": "\ud800"}}, "payload"),
    ],
)
def test_a_bad_event_names_its_field(api: Api, body: dict[str, Any], field: str) -> None:
    import json

    answer = api.admin.post(PATH, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert [f["path"] for f in answer.json()["error"]["fields"]] == [field]


def test_an_unknown_project_is_named(api: Api) -> None:
    api.deploy(entry())
    refused = error(api.admin.post(PATH, json={"name": "a", "project": "ordesr"}), 404, "unknown_project")
    assert "there are orders" in refused["message"]


@pytest.mark.parametrize(
    ("task", "place", "words"),
    [
        (entry(where={"amount": {"above": 3}}), "ship.on_event.order.paid.where.amount", "'above' is no operator"),
        (entry(where={"a..b": 3}), "ship.on_event.order.paid.where", "no path"),
        (entry(required=("event", "order")), "ship.on_event", "nothing fills the parameter 'order'"),
        (task_entry("ship", on_event=[{"name": "a b"}]), "ship.options.on_event.0.name", "a b"),
    ],
)
def test_a_deployment_that_listens_wrongly_fails_naming_it(
    api: Api, task: dict[str, Any], place: str, words: str
) -> None:
    made = api.upload(source("orders")).json()
    (build,) = api.claim(builds=1, slots=0)["builds"]
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": [task]}
    ok(
        api.runner.post(
            f"/internal/v1/builds/{made['id']}/done",
            json={"token": build["token"], "image": "samovar/orders:1", "index": index},
        )
    )
    shown = ok(api.admin.get(f"/api/v1/deployments/{made['id']}"))
    assert (shown["status"], shown["error"]["code"]) == ("failed", "bad_index")
    (field,) = shown["error"]["fields"]
    assert field["path"] == place
    assert words in field["message"]


def test_the_fleets_key_sends_nothing(api: Api) -> None:
    error(api.runner.post(PATH, json={"name": "a"}), 403, "forbidden")
