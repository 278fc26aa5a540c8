"""Every route with no key, a low key and another project's key; keys that end; hints; signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from coordinator.api import budgets
from tests.conformance.store import task_entry
from tests.security.attempts import attempt
from tests.security.clients import MINE, SECRET_NAMES, THEIRS, Seat, seat
from tests.signing import github
from tests.unit.coordinator.conftest import error, ok
from tests.waiting import eventually


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    with seat(tmp_path_factory.mktemp("seat")) as made:
        yield made


OPEN = ("/healthz", "/readyz", "/openapi.json", "/hooks/", "/tokens/")

BODIES: dict[str, Any] = {
    "runs": {"payload": {"zz": 1}, "idempotency_key": "k1"},
    "batch": {"items": [{}]},
    "events": {"name": "zeventname", "payload": {}},
    "schedules": {"task": "ztaskname", "name": "x", "cron": "0 3 * * *"},
    "keys": {"name": "made", "role": "admin"},
    "secrets": {"value": "a long value of mine"},
    "queues": {"paused": True},
    "cancel": {"filter": {"task": "ztaskname"}},
    "replay": {"filter": {"task": "ztaskname"}},
    "dismiss": {"filter": {"task": "ztaskname"}},
}


def routes(here: Seat) -> list[tuple[str, str]]:
    """Every operation of the OpenAPI document, and those of the fleet, which are not in it."""
    document = ok(here.api.client(None).get("/openapi.json"))
    found = [(method.upper(), path) for path, item in document["paths"].items() for method in item]
    fleet = ("claim", "heartbeat", "commands", "images")
    found += [("POST", f"/internal/v1/runners/r1/{name}") for name in fleet]
    found += [("GET", "/internal/v1/runners/r1/attempts"), ("GET", "/internal/v1/builds/{deployment}/source")]
    found += [("POST", f"/internal/v1/builds/{{deployment}}/{name}") for name in ("log", "done", "failed")]
    found += [("POST", f"/internal/v1/attempts/att_x/{name}") for name in ("start", "finish", "lost", "logs")]
    assert len(found) > 50
    return found


def filled(path: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    return path.partition("{")[0] + "x" if "{" in path else path


def bodies(method: str, path: str) -> dict[str, Any]:
    if method not in ("POST", "PUT", "PATCH"):
        return {}
    for part in reversed(path.split("/")):
        if part in BODIES:
            return {"json": BODIES[part]}
    return {"json": {}}


def names_of_theirs(here: Seat, kind: str) -> dict[str, str]:
    """What stands for each parameter of a path: the other project's things by id, or names that are near."""
    exact = {
        **{name: here.theirs[name] for name in ("run", "deployment", "schedule", "project")},
        "task": "ztaskname",
        "queue": "zqueuename",
        "name": "zsecretname",
        "path": "zhookpath",
        "secret": "zsecretname",
        "key": "admin",
        "delivery": "del_none",
        "token": "tok_none",
    }
    if kind == "exact":
        return exact
    near = {
        "task": "ztasknam",
        "queue": "zqueuenam",
        "name": "zsecretnam",
        "project": "zotherpro",
        "run": "run_none",
    }
    return {**exact, **near, "deployment": "dep_none", "schedule": "sch_none"}


@attempt("client", "every route without a key", "the gate", "401")
def test_no_route_is_open_that_should_not_be(here: Seat) -> None:
    with here.api.client(None) as client:
        for method, path in routes(here):
            if path.startswith(OPEN):
                continue
            answer = client.request(method, filled(path, names_of_theirs(here, "exact")), **bodies(method, path))
            assert answer.status_code == 401, (method, path, answer.text)


@pytest.mark.parametrize(
    "role",
    [
        pytest.param("trigger", marks=attempt("client", "every write with a trigger key", "roles", "403, 404")),
        pytest.param("read", marks=attempt("client", "every write with a key that reads", "roles", "403, 404")),
    ],
)
def test_a_low_key_writes_nothing(here: Seat, role: str) -> None:
    with here.api.client(here.keys[role]) as client:
        for method, path in routes(here):
            # a trigger's key makes runs, and sends what they are given
            makes = ("/runs" in path and "/tasks/" in path) or path.endswith(("/events", "/files"))
            triggers = role == "trigger" and makes
            # and every key signs in to the dashboard as itself, where who reads keeps addresses under names
            own = path.endswith("/dashboard/link") or (role == "read" and "/views/" in path)
            if path.startswith(OPEN) or method in ("GET", "HEAD") or triggers or own:
                continue
            answer = client.request(method, filled(path, names_of_theirs(here, "exact")), **bodies(method, path))
            assert answer.status_code in (401, 403, 404), (method, path, answer.text)


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        pytest.param(
            role,
            kind,
            marks=attempt(
                "client",
                f"another project's things by {'id and name' if kind == 'exact' else 'names near to theirs'}, "
                f"every route, key of the role {role}",
                "a key sees one project",
                "no answer names it",
            ),
        )
        for role in ("admin", "trigger", "read")
        for kind in ("exact", "near")
    ],
)
def test_no_answer_names_what_another_project_has(here: Seat, role: str, kind: str) -> None:
    given = names_of_theirs(here, kind)
    asked = {*given.values(), *(value for body in BODIES.values() for value in _texts(body))}
    with here.api.client(here.keys[role]) as client:
        for method, path in routes(here):
            if path.startswith(OPEN) or path.endswith(("/stream", "/wait")):
                continue
            url = filled(path, given)
            for query in ("", "?project=" + THEIRS, "?task=zz&tag=x&name=zeventnam&webhook=zhook"):
                answer = client.request(method, url + query, **bodies(method, path))
                assert answer.status_code < 500, (method, url, answer.text)
                text = answer.text
                # what was asked for may be said again: it is the caller's own
                for name in sorted({*asked, url, THEIRS if query.endswith(THEIRS) else ""} - {""}, key=len)[::-1]:
                    text = text.replace(name, "")
                assert not [name for name in SECRET_NAMES if name in text], (method, url, query, answer.text)
    run = ok(here.api.admin.get(f"/api/v1/runs/{here.theirs['run']}"))
    assert run["status"] == "queued"
    queue = [q for q in ok(here.api.admin.get("/api/v1/queues"))["items"] if q["name"] == "zqueuename"]
    assert queue[0]["paused"] is False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param(
            method,
            path,
            marks=attempt("client", f"{what} of another project", "hints", "404, no name of its"),
        )
        for method, path, what in (
            ("DELETE", "/api/v1/secrets/zsecretname", "remove a secret"),
            ("PATCH", "/api/v1/queues/zqueuenam", "pause a queue near to one"),
            ("POST", "/api/v1/tasks/ztasknam/runs", "trigger a task near to one"),
        )
    ],
)
def test_hints_name_only_what_is_seen(here: Seat, method: str, path: str) -> None:
    body = {"DELETE": {}, "PATCH": {"json": {"paused": True}}, "POST": {"json": {}}}[method]
    with here.api.client(here.keys["admin"]) as client:
        answer = client.request(method, path, **body)
    assert answer.status_code == 404
    said = answer.text.replace(path.rsplit("/runs")[0].rpartition("/")[2], "")
    assert not [name for name in SECRET_NAMES if name in said]
    # who sees all is told
    if method != "PATCH":
        assert [name for name in SECRET_NAMES if name in here.api.admin.request(method, path, **body).text]


# ---------------------------------------------------------------- keys that end


def fresh_key(here: Seat, name: str, role: str = "read") -> str:
    return str(ok(here.api.admin.post("/api/v1/keys", json={"name": name, "role": role, "project": MINE}))["key"])


@attempt("client", "a long poll with a key that is revoked meanwhile", "the caller is asked again", "401")
def test_a_poll_ends_with_its_key(here: Seat) -> None:
    run = here.api.trigger(f"{MINE}/greet")["id"]
    key = fresh_key(here, "poller")
    answers: list[httpx.Response] = []

    def wait() -> None:
        with here.api.client(key) as client:
            answers.append(client.get(f"/api/v1/runs/{run}/wait", params={"timeout": 55}))

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: _held(here, key), "the poll to be held")
    ok(here.api.admin.delete("/api/v1/keys/poller"))
    thread.join(30)
    error(answers[0], 401, "unauthenticated")


@attempt("client", "a stream with a key that is revoked meanwhile", "the caller is asked again", "the stream ends")
def test_a_stream_ends_with_its_key(here: Seat) -> None:
    run = here.api.trigger(f"{MINE}/greet")["id"]
    key = fresh_key(here, "streamer")
    with here.api.client(key) as client, client.stream("GET", f"/api/v1/runs/{run}/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines)
        ok(here.api.admin.delete("/api/v1/keys/streamer"))
        # ends: else this would last until the client's own timeout
        rest = list(lines)
    assert not [line for line in rest if line.startswith("event: log")]


@attempt("client", "a claim with a runner's key that is revoked meanwhile", "the caller is asked again", "401")
def test_a_claim_ends_with_its_key(here: Seat) -> None:
    key = str(ok(here.api.admin.post("/api/v1/keys", json={"name": "host", "role": "runner"}))["key"])
    answers: list[httpx.Response] = []

    def wait() -> None:
        with here.api.client(key) as client:
            body = {"memory": 0, "slots": 0, "builds": 1, "timeout": 55}
            answers.append(client.post("/internal/v1/runners/gone/claim", json=body))

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: _held(here, key), "the claim to be held")
    ok(here.api.admin.delete("/api/v1/keys/host"))
    thread.join(30)
    error(answers[0], 401, "unauthenticated")


def _held(here: Seat, key: str) -> bool:
    """Whether the key was looked up, and so its request is on its way or held."""
    return hashlib.sha256(key.encode()).hexdigest() in here.core.callers._known


# ---------------------------------------------------------------- signatures

BODY = b'{"id": "evt_1"}'


def forged(secret: str, scheme: str, at: float) -> dict[str, str]:
    """Headers signed by whoever guesses what the secret comes to."""
    if scheme == "standard":
        signed = b"msg_1." + str(int(at)).encode() + b"." + BODY
        import base64

        text = secret.removeprefix("whsec_")
        key = base64.b64decode(text + "=" * (-len(text) % 4)) if secret.startswith("whsec_") else secret.encode()
        digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at)), "webhook-signature": f"v1,{digest}"}
    return {"x-hub-signature-256": "sha256=" + hmac.digest(secret.encode(), BODY, hashlib.sha256).hex()}


@pytest.mark.parametrize(
    ("secret", "scheme"),
    [
        pytest.param(
            secret,
            scheme,
            marks=attempt(
                "client", f"a delivery signed with the secret {secret!r}", "shortest key", "not believed"
            ),
        )
        for secret, scheme in (
            ("whsec_", "standard"),
            ("whsec_AA==", "standard"),
            ("whsec_====", "standard"),
            ("x", "github"),
            ("  ", "github"),
            ("1234567", "github"),
        )
    ],
)
def test_a_secret_that_anybody_finds_out_verifies_nothing(secret: str, scheme: str) -> None:
    from coordinator.access.signatures import BadSignature, verify

    try:
        headers = forged(secret, scheme, 1000.0)
    except ValueError:
        headers = forged("whsec_", scheme, 1000.0)
    with pytest.raises(BadSignature, match="shorter than"):
        verify(scheme, secret, headers, BODY, 1000.0)


@attempt("client", "unsigned deliveries of 1 MB, deep and not JSON", "signatures before parsing", "401")
def test_a_delivery_is_verified_before_it_is_parsed(here: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    from coordinator.access import signatures

    monkeypatch.setattr(signatures.json, "loads", lambda *a: pytest.fail("it was parsed"))
    for headers in (github("another secret of somebody", BODY), {"x-twitter-webhooks-signature": "sha256=x"}):
        scheme = "github" if "x-hub-signature-256" in headers else "x"
        for declared in (scheme, None):
            with pytest.raises(signatures.BadSignature):
                signatures.verify(declared, "a long secret of mine", headers, b"[" * 1_000_000, 1000.0)


@attempt("client", "wrong signatures without end from one address", "budget of an address", "429")
def test_an_address_that_is_wrong_without_end_is_told_to_wait(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "ADDRESS_BURST", 5)
    monkeypatch.setattr(budgets, "ADDRESS_RATE", 0.01)
    with seat(tmp_path_factory.mktemp("hooks")) as here, here.api.client(None) as client:

        def refused() -> httpx.Response | None:
            answer = client.post(f"/hooks/{THEIRS}/zhookpath", content=BODY)
            assert answer.status_code in (401, 429)
            return answer if answer.status_code == 429 else None

        answer = eventually(refused, "the address to be told to wait")
        assert int(answer.headers["Retry-After"]) >= 1
        # whoever has a key is not held up by it
        ok(here.api.admin.get("/api/v1/runs"))


# ---------------------------------------------------------------- bodies

HOSTILE_BODIES = {
    "nested 100,000 deep": b'{"payload": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "a million empty lists": b'{"payload": {"x": [' + b"[]," * 1_000_000 + b"[]]}}",
    "a number of a million digits": b'{"payload": {"x": ' + b"9" * 1_000_000 + b"}}",
    "NaN": b'{"id": NaN}',
    "Infinity": b'{"payload": {"x": -Infinity}}',
    "1e400": b'{"payload": {"x": 1e400}}',
    "names that stand twice": b'{"payload": {}, "payload": {"x": 1}}',
    "a lone surrogate": b'{"idempotency_key": "\\ud800"}',
    "bytes that are no UTF-8": b'{"idempotency_key": "\xff\xfe"}',
    "UTF-16": '{"payload": {}}'.encode("utf-16"),
    "a list": b"[]",
    "text": b'"x"',
    "300,000 unknown fields": json.dumps({f"f{n}": 1 for n in range(300_000)}).encode(),
    "a delay of 1e300": b'{"delay": 1e300}',
    "a delay of 400 digits": b'{"delay": ' + b"9" * 400 + b"}",
    "a priority beyond the database": b'{"priority": 1e300}',
    "memory of 300 digits": b'{"memory": ' + b"9" * 300 + b"}",
    "100,000 tags": json.dumps({"tags": ["t"] * 100_000}).encode(),
}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            body,
            marks=attempt("client", f"a trigger of {name}", "counted before it is made", "422 or 413"),
            id=name,
        )
        for name, body in HOSTILE_BODIES.items()
    ],
)
def test_hostile_bodies(here: Seat, body: bytes) -> None:
    with here.api.client(here.keys["trigger"]) as client:
        kind = {"Content-Type": "application/json"}
        answer = client.post("/api/v1/tasks/greet/runs", content=body, headers=kind)
        assert answer.status_code in (400, 413, 422), answer.text
        problem = answer.json()["error"]
        assert len(problem["fields"]) <= 50
        assert len(answer.content) < 20_000


@attempt(
    "client",
    "a schema with a pattern that backtracks, then its text",
    "an engine without backtracking",
    "422 at once",
)
def test_a_deployers_pattern_holds_nobody_up(here: Seat) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    here.api.deploy(task_entry("greet"), task_entry("slow", schema), project=MINE)
    answer = here.api.admin.post("/api/v1/tasks/slow/runs", json={"payload": {"x": "a" * 60_000 + "!"}})
    error(answer, 422, "bad_payload")
    assert here.alive()
