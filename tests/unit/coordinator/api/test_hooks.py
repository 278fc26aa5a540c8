"""Webhooks over HTTP: what is believed, what is refused and leaves nothing, and what becomes of the rest."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.store import task_entry
from tests.signing import github, standard, stripe
from tests.unit.coordinator.conftest import Api, error, ok, serving, source

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id": "evt_1", "n": 1}'


def entry(
    id: str = "pay", path: str = "stripe", secret: str | None = "WHSEC", required: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: {} for name in ("payload", "headers", "delivery_id", *required)},
        "required": list(required),
        "additionalProperties": False,
    }
    return task_entry(id, schema, webhook={"path": path, "secret": secret, "scheme": None, **more})


def post(
    api: Api, headers: dict[str, str], body: bytes = BODY, path: str = "stripe", project: str = "orders"
) -> httpx.Response:
    with api.client(None) as anybody:
        return anybody.post(f"/hooks/{project}/{path}", content=body, headers=headers)


def set_secret(api: Api, value: str = SECRET, name: str = "WHSEC") -> None:
    ok(api.admin.put(f"/api/v1/secrets/{name}", json={"value": value}))


def nothing_came_in(api: Api) -> bool:
    return not ok(api.admin.get("/api/v1/deliveries"))["items"] and not ok(api.admin.get("/api/v1/runs"))["items"]


def test_a_signed_delivery_is_a_run_and_the_same_again_is_the_same_run(api: Api) -> None:
    set_secret(api)
    api.deploy(entry())
    headers = {**stripe(SECRET, BODY, time.time()), "content-type": "application/json", "cookie": "a=b"}
    answer = post(api, headers)
    assert answer.status_code == 201
    first = answer.json()
    assert (first["delivery_id"], first["status"]) == ("evt_1", "delivered")
    payload = api.run(first["run"])["payload"]
    assert (payload["payload"], payload["delivery_id"]) == ({"id": "evt_1", "n": 1}, "evt_1")
    assert payload["headers"]["content-type"] == "application/json"
    assert not {"cookie", "stripe-signature"} & set(payload["headers"])
    assert api.claim_one()["run"] == first["run"]

    again = post(api, stripe(SECRET, BODY, time.time() + 1))
    assert (again.status_code, again.json()) == (200, first)
    assert len(ok(api.admin.get("/api/v1/runs"))["items"]) == 1

    (item,) = ok(api.admin.get("/api/v1/deliveries"))["items"]
    assert (item["run"], item["scheme"], item["webhook"], item["body"]) == (first["run"], "stripe", "stripe", None)
    shown = ok(api.admin.get(f"/api/v1/deliveries/{item['id']}"))
    assert (shown["body"], shown["headers"]) == (BODY.decode(), payload["headers"])


def test_each_scheme_is_told_by_its_headers(api: Api) -> None:
    set_secret(api)
    api.deploy(entry())
    for headers, id in (
        (standard(SECRET, BODY, time.time(), "msg_7"), "msg_7"),
        (github(SECRET, BODY, "d-7"), "d-7"),
    ):
        answer = post(api, headers)
        assert (answer.status_code, answer.json()["delivery_id"]) == (201, id)


def test_what_is_forged_or_stale_is_refused_and_leaves_nothing(api: Api) -> None:
    set_secret(api)
    api.deploy(entry())
    now = time.time()
    for headers, body, words in (
        (stripe(SECRET, BODY, now), BODY.replace(b"1", b"2"), "does not fit"),
        (stripe("another", BODY, now), BODY, "does not fit"),
        (stripe(SECRET, BODY, now - 400), BODY, "s old"),
        (stripe(SECRET, BODY, now + 400), BODY, "s ahead"),
        (github("another", BODY), BODY, "does not fit"),
        ({"authorization": "Bearer x"}, BODY, "no signature"),
    ):
        assert words in error(post(api, headers, body), 401, "bad_signature")["message"]
    assert nothing_came_in(api)
    (hook,) = ok(api.admin.get("/api/v1/webhooks"))["items"]
    assert (hook["refused"], hook["secret_set"], hook["signed"]) == (6, True, True)
    assert "no signature" in hook["refused_reason"]
    assert hook["url"] == f"{api.url}/hooks/orders/stripe"


def test_a_secret_that_is_not_set_or_cannot_be_opened_has_the_sender_come_again(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (api, _):
        api.deploy(entry())
        headers = stripe(SECRET, BODY, time.time())
        refused = error(post(api, headers), 503, "webhook_not_ready")
        assert "WHSEC" not in refused["message"]
        (hook,) = ok(api.admin.get("/api/v1/webhooks"))["items"]
        assert (hook["secret_set"], hook["refused_reason"]) == (False, "the secret WHSEC is not set")
        set_secret(api)
        (tmp_path / "data" / "master-keys").chmod(0o644)
        refused = error(post(api, headers), 503, "webhook_not_ready")
        assert "master" not in refused["message"]
        assert nothing_came_in(api)
        (tmp_path / "data" / "master-keys").chmod(0o600)
        assert post(api, headers).status_code == 201


def test_sizes_addresses_and_methods(api: Api) -> None:
    set_secret(api)
    api.deploy(entry())
    large = json.dumps({"id": "evt_large", "text": "x" * 900_000}).encode()
    answer = post(api, stripe(SECRET, large, time.time()), large)
    assert answer.status_code == 201  # larger than what a row takes
    assert len(ok(api.admin.get(f"/api/v1/deliveries/{answer.json()['id']}"))["body"]) == len(large)
    assert len(api.run(answer.json()["run"])["payload"]["payload"]["text"]) == 900_000
    again = ok(api.admin.post(f"/api/v1/deliveries/{answer.json()['id']}/replay"))
    assert len(api.run(again["run"])["payload"]["payload"]["text"]) == 900_000

    huge = b"x" * (1024 * 1024 + 1)
    error(post(api, stripe(SECRET, huge, time.time()), huge), 413, "too_large")
    with api.client(None) as anybody:
        chunked = anybody.post("/hooks/orders/stripe", content=iter([huge]), headers={"x": "y"})
        error(chunked, 413, "too_large")
        error(anybody.get("/hooks/orders/stripe"), 405, "method_not_allowed")
    error(post(api, {}, path="nothing"), 404, "unknown_webhook")
    error(post(api, {}, project="nobody"), 404, "unknown_webhook")


def test_dead_ones_are_listed_and_replayed(api: Api) -> None:
    set_secret(api)
    api.deploy(entry())
    api.deploy(task_entry("greet"))
    answer = post(api, stripe(SECRET, BODY, time.time()))
    assert (answer.status_code, answer.json()["status"], answer.json()["run"]) == (202, "dead", None)
    (item,) = ok(api.admin.get("/api/v1/deliveries", params={"status": "dead"}))["items"]
    assert "has no webhook 'stripe'" in item["problem"]
    error(api.admin.post(f"/api/v1/deliveries/{item['id']}/replay"), 409, "webhook_gone")
    api.deploy(entry())
    replayed = api.admin.post(f"/api/v1/deliveries/{item['id']}/replay")
    assert (replayed.status_code, replayed.json()["status"], replayed.json()["replays"]) == (201, "delivered", 1)
    assert api.run(replayed.json()["run"])["payload"]["delivery_id"] == "evt_1"
    assert ok(api.admin.get("/api/v1/deliveries", params={"status": "dead"}))["items"] == []
    error(api.admin.post("/api/v1/deliveries/whd_none/replay"), 404, "not_found")
    error(api.admin.get("/api/v1/deliveries/whd_none"), 404, "not_found")
    error(api.admin.get("/api/v1/deliveries", params={"status": "lost"}), 422, "invalid_request")


def test_an_unsigned_webhook_takes_anything_and_is_shown_as_such(api: Api) -> None:
    api.deploy(entry("open", "open/house", None))
    answers = [post(api, {}, b"hello", "open/house").json() for _ in range(2)]
    assert answers[0]["run"] != answers[1]["run"]
    named = [post(api, {"idempotency-key": "k"}, b"hello", "open/house").status_code for _ in range(2)]
    assert named == [201, 200]
    assert api.run(answers[0]["run"])["payload"]["payload"] == "hello"
    (hook,) = ok(api.admin.get("/api/v1/webhooks"))["items"]
    assert (hook["signed"], hook["secret"]) == (False, None)


@pytest.mark.parametrize(
    ("tasks", "place", "words"),
    [
        ([entry(path="a b")], "pay.options.webhook.path", "a b"),
        ([entry(secret="1X")], "pay.options.webhook.secret", "1X"),
        ([entry(scheme="paypal")], "pay.options.webhook.scheme", "paypal"),
        ([entry(required=("order",))], "pay.webhook", "nothing fills the parameter 'order'"),
        ([entry("a"), entry("b")], "b.options.webhook", "a has a webhook at 'stripe' too"),
    ],
)
def test_a_deployment_with_a_bad_webhook_fails_naming_it(
    api: Api, tasks: list[dict[str, Any]], place: str, words: str
) -> None:
    made = api.upload(source("orders")).json()
    (build,) = api.claim(builds=1, slots=0)["builds"]
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": tasks}
    done = {"token": build["token"], "image": "samovar/orders:1", "index": index}
    ok(api.runner.post(f"/internal/v1/builds/{made['id']}/done", json=done))
    shown = ok(api.admin.get(f"/api/v1/deployments/{made['id']}"))
    assert (shown["status"], shown["error"]["code"]) == ("failed", "bad_index")
    (field,) = shown["error"]["fields"]
    assert field["path"] == place
    assert words in field["message"]
