"""Webhooks over HTTP: what is believed, what is refused and leaves nothing, and what becomes of the rest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from samovar import Challenge, Webhook

from tests.conformance.store import task_entry
from tests.signing import github, slack, standard, stripe, x, zoom
from tests.unit.coordinator.conftest import Api, error, ok, serving, source

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id": "evt_1", "n": 1}'


def entry(
    id: str = "pay", path: str = "stripe", secret: str | None = "WHSEC", required: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: {} for name in ("payload", "headers", "delivery_id", "query", *required)},
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


# ---------------------------------------------------------------- senders that first ask


def asking(challenge: Challenge | str, secret: str | None = "WHSEC", path: str = "asks") -> dict[str, Any]:
    return entry(**Webhook(path, secret=secret, challenge=challenge).describe())


def get(api: Api, path: str = "asks", headers: dict[str, str] | None = None, **query: str) -> httpx.Response:
    with api.client(None) as anybody:
        return anybody.get(f"/hooks/orders/{path}", params=query, headers=headers)


def test_a_sender_that_asks_with_get_is_answered(api: Api) -> None:
    set_secret(api, "open sesame", "TOKEN")
    api.deploy(asking(Challenge("meta", verify="TOKEN")))
    query = {"hub.mode": "subscribe", "hub.challenge": "<b>1158201444</b>", "hub.verify_token": "open sesame"}
    answer = get(api, **query)
    assert (answer.status_code, answer.text) == (200, "<b>1158201444</b>")
    # what anybody sends is no page of ours
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    error(get(api, **{**query, "hub.verify_token": "guessed"}), 403, "bad_challenge")
    (shown,) = ok(api.admin.get("/api/v1/webhooks"))["items"]
    assert (shown["refused"], "not the secret TOKEN" in shown["refused_reason"]) == (1, True)
    assert shown["challenge"] == "meta"
    # nothing else is there for GET
    error(get(api), 405, "method_not_allowed")
    error(get(api, "nobody"), 404, "unknown_webhook")
    assert nothing_came_in(api)
    # its deliveries are signed in GitHub's way
    set_secret(api)
    assert post(api, github(SECRET, BODY), path="asks").status_code == 201


def test_a_webhook_without_a_challenge_takes_post(api: Api) -> None:
    api.deploy(entry())
    error(get(api, "stripe", challenge="a"), 405, "method_not_allowed")


def test_a_token_that_is_not_set_yet_may_be_asked_for_again(api: Api) -> None:
    made = api.deploy(asking(Challenge("strava", verify="TOKEN"), secret=None))
    log = ok(api.admin.get(f"/api/v1/deployments/{made['id']}/log"))["items"]
    assert any("answers no challenge until its secret is set" in line["message"] for line in log)
    error(get(api, **{"hub.mode": "subscribe", "hub.challenge": "a"}), 503, "webhook_not_ready")


def test_slack_is_set_up_and_its_deliveries_are_believed(api: Api) -> None:
    set_secret(api)
    api.deploy(asking("slack"))
    asked = json.dumps({"type": "url_verification", "token": "t", "challenge": "3eZbrw"}).encode()
    # a mere echo, and so for anybody
    answer = post(api, {"content-type": "application/json"}, asked, path="asks")
    assert (answer.status_code, answer.json()) == (200, {"challenge": "3eZbrw"})
    event = json.dumps({"type": "event_callback", "event_id": "Ev1", "event": {}}).encode()
    error(post(api, slack("other", event, time.time()), event, path="asks"), 401, "bad_signature")
    error(post(api, slack(SECRET, event, time.time() - 600), event, path="asks"), 401, "bad_signature")
    first = post(api, slack(SECRET, event, time.time()), event, path="asks")
    again = post(api, {**slack(SECRET, event, time.time()), "x-slack-retry-num": "1"}, event, path="asks")
    assert (first.status_code, again.status_code, again.json()["run"]) == (201, 200, first.json()["run"])
    command = b"command=%2Fdeploy&text=orders+now"
    form = {**slack(SECRET, command, time.time()), "content-type": "application/x-www-form-urlencoded"}
    run = api.run(post(api, form, command, path="asks").json()["run"])
    assert run["payload"]["payload"] == {"command": "/deploy", "text": "orders now"}
    assert not {"x-slack-signature"} & set(run["payload"]["headers"])


def test_zoom_gets_its_token_signed_only_if_it_has_signed_itself(api: Api) -> None:
    set_secret(api)
    api.deploy(asking("zoom"))
    asked = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8"}}).encode()
    error(post(api, {}, asked, path="asks"), 401, "bad_signature")
    answer = post(api, zoom(SECRET, asked, time.time()), asked, path="asks")
    signed = hmac.new(SECRET.encode(), b"qgg8", hashlib.sha256).hexdigest()
    assert answer.json() == {"plainToken": "qgg8", "encryptedToken": signed}
    assert nothing_came_in(api)
    assert post(api, zoom(SECRET, BODY, time.time()), path="asks").status_code == 201


def test_x_gets_its_token_signed_and_no_delivery(api: Api) -> None:
    set_secret(api)
    api.deploy(asking("x"))
    expected = base64.b64encode(hmac.digest(SECRET.encode(), b"word", hashlib.sha256)).decode()
    assert get(api, crc_token="word").json() == {"response_token": f"sha256={expected}"}
    error(get(api, crc_token=BODY.decode()), 403, "bad_challenge")
    # what can be had signed is no delivery
    error(post(api, x(SECRET, b"word"), b"word", path="asks"), 401, "bad_signature")
    assert nothing_came_in(api)
    assert post(api, x(SECRET, BODY), path="asks").status_code == 201


def test_microsoft_asks_with_post_and_an_empty_body(api: Api) -> None:
    api.deploy(asking("microsoft", secret=None))
    with api.client(None) as anybody:
        answer = anybody.post("/hooks/orders/asks", params={"validationToken": "Validation: Testing"})
        assert (answer.status_code, answer.text) == (200, "Validation: Testing")
        sent = anybody.post("/hooks/orders/asks", params={"tenant": ["a", "b"]}, json={"value": []})
    assert sent.status_code == 201
    # the parameters reach the task, and are there again when it is replayed
    assert ok(api.admin.get(f"/api/v1/deliveries/{sent.json()['id']}"))["query"] == {"tenant": ["a", "b"]}
    assert api.run(sent.json()["run"])["payload"]["query"] == {"tenant": ["a", "b"]}
    replayed = ok(api.admin.post(f"/api/v1/deliveries/{sent.json()['id']}/replay"))
    assert api.run(replayed["run"])["payload"]["query"] == {"tenant": ["a", "b"]}


@pytest.mark.parametrize("scheme", ["github", None])
def test_githubs_default_content_type_works(api: Api, scheme: str | None) -> None:
    set_secret(api)
    api.deploy(entry(scheme=scheme))
    body = urlencode({"payload": '{"ref": "refs/heads/main"}'}).encode()
    headers = {**github(SECRET, body), "content-type": "application/x-www-form-urlencoded"}
    answer = post(api, headers, body)
    assert answer.status_code == 201
    assert api.run(answer.json()["run"])["payload"]["payload"] == {"ref": "refs/heads/main"}


def test_forms_text_and_bytes_reach_the_task(api: Api) -> None:
    api.deploy(entry(secret=None))
    with api.client(None) as anybody:
        sent = [
            anybody.post("/hooks/orders/stripe", data={"From": "+49", "Media": ["a", "b"]}),
            anybody.post("/hooks/orders/stripe", data={"to": "x"}, files={"file": ("a.bin", b"\xff\x00")}),
            anybody.post("/hooks/orders/stripe", content=b"\xff\xfe\x00", headers={"content-type": "image/gif"}),
        ]
    found = [api.run(answer.json()["run"])["payload"]["payload"] for answer in sent]
    assert found[0] == {"From": "+49", "Media": ["a", "b"]}
    assert (found[1]["to"], found[1]["file"]["name"], found[1]["file"]["base64"]) == ("x", "a.bin", "/wA=")
    assert found[2] == {"content_type": "image/gif", "base64": "//4A"}
