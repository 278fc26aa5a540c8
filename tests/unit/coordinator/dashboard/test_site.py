"""The dashboard over HTTP: who gets in, who doesn't, what a page costs, and what its answers carry."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import event

from coordinator.api import budgets
from coordinator.context import Coordinator
from coordinator.dashboard import rendering, vendoring
from coordinator.foundation.limits import ADDRESS_BURST
from coordinator.maintenance.duties import DUTIES
from tests.conformance.store import task_entry
from tests.plain import PLAIN
from tests.unit.coordinator.conftest import ADMIN, Api, ok, serving
from tests.waiting import eventually

PAGES = [
    *(
        "/",
        "/runs",
        "/runs?status=failed&task=greet",
        "/dead-letters",
        "/tasks",
        "/tasks/orders/greet",
        "/errors",
        "/queues",
        "/queues/orders/task%2Fgreet",
        "/bulk",
    ),
    *(
        "/schedules",
        "/events",
        "/webhooks",
        "/tokens",
        "/deployments",
        "/pool",
        "/pool?what-if=yes",
        "/hosts",
        "/keys",
        "/secrets",
    ),
    *("/audit", "/system"),
]


@contextmanager
def browser(api: Api, key: str | None = ADMIN) -> Iterator[httpx.Client]:
    """A browser of this site, signed in with `key`."""
    with httpx.Client(base_url=api.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=60, **PLAIN) as client:
        if key is not None:
            answer = client.post("/login", data={"key": key})
            assert answer.status_code == 303, answer.text
        yield client


# ---------------------------------------------------------------- who gets in


def test_signing_in_leads_to_where_one_was_going(api: Api) -> None:
    with browser(api, None) as client:
        asked = client.get("/runs?status=failed&tag=a b")
        assert asked.status_code == 303
        login = urlsplit(asked.headers["location"])
        going = parse_qs(login.query)["next"][0]
        assert (login.path, going) == ("/login", "/runs?status=failed&tag=a%20b")
        form = client.get(asked.headers["location"])
        assert 'value="/runs?status=failed&amp;tag=a%20b"' in form.text
        entered = client.post("/login", data={"key": ADMIN, "next": going})
        assert (entered.status_code, entered.headers["location"]) == (303, going)
        cookie = entered.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
        assert ADMIN not in cookie
        assert client.get(going).status_code == 200


@pytest.mark.parametrize(
    "going", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "javascript:x"]
)
def test_nobody_is_led_elsewhere(api: Api, going: str) -> None:
    with browser(api, None) as client:
        assert "elsewhere" not in client.get("/login", params={"next": going}).text
        assert client.post("/login", data={"key": ADMIN, "next": going}).headers["location"] == "/"


def test_wrong_keys_and_runners_keys_are_refused_and_counted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # as if no time passed: a busy machine guesses slower than an address may
    monkeypatch.setattr(budgets, "ADDRESS_RATE", 1e-9)
    runner = ok(api.admin.post("/api/v1/keys", json={"name": "host", "role": "runner"}))["key"]
    with browser(api, None) as client:
        assert client.post("/login", data={"key": runner}).status_code == 403
        assert client.post("/login", data={"key": "wrong"}).status_code == 401
        answers = [client.post("/login", data={"key": "wrong"}).status_code for _ in range(ADDRESS_BURST)]
        assert answers[-1] == 429, "an address may not guess for long"
        assert not client.cookies


def test_an_end_of_the_session_or_its_key_is_one_at_once(api: Api) -> None:
    api.deploy()
    made = ok(api.admin.post("/api/v1/keys", json={"name": "k", "role": "read"}))
    with browser(api, made["key"]) as first, browser(api, made["key"]) as second:
        assert first.get("/runs").status_code == second.get("/runs").status_code == 200
        assert first.post("/logout").headers["location"] == "/login"
        assert first.get("/runs").status_code == 303
        assert second.get("/runs").status_code == 200
        ok(api.admin.delete("/api/v1/keys/k"))
        assert second.get("/runs").status_code == 303
        assert second.post("/runs/preview", data={"act": "cancel"}).status_code == 303


def test_a_stream_ends_with_its_key(api: Api) -> None:
    made = ok(api.admin.post("/api/v1/keys", json={"name": "k", "role": "read"}))
    with browser(api, made["key"]) as client, client.stream("GET", "/live", params={"of": "/runs"}) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line) == "event: part"
        ok(api.admin.delete("/api/v1/keys/k"))
        assert "event: over" in list(lines)


def test_a_link_signs_in_once_and_only_here(api: Api) -> None:
    link = ok(api.admin.post("/api/v1/dashboard/link", json={"path": "/queues"}))["url"]
    with browser(api, None) as client:
        assert client.get(link, headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 403
        assert client.get("/queues").status_code == 303
        entered = client.get(link)
        assert (entered.status_code, entered.headers["location"]) == (303, "/queues")
        assert client.get("/queues").status_code == 200
    with browser(api, None) as other:
        assert other.get(link).status_code == 401
    for path in ("//evil", "https://evil", "/\\evil", "/a\nb", ""):
        assert api.admin.post("/api/v1/dashboard/link", json={"path": path}).status_code == 422


# ---------------------------------------------------------------- what is no form of ours


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ],
)
def test_forms_of_other_sites_do_nothing(api: Api, headers: dict[str, str]) -> None:
    api.deploy()
    run = api.trigger()["id"]
    with browser(api) as client:
        del client.headers["Sec-Fetch-Site"]
        for path in (f"/runs/{run}/cancel", "/keys", "/login", "/logout", "/runs/apply", "/queues/change"):
            answer = client.post(path, data={"act": "cancel", "all": "yes", "key": ADMIN}, headers=headers)
            assert answer.status_code == 403, (path, answer.text)
        assert api.run(run)["status"] == "queued"
        assert client.get("/runs").status_code == 200, "nor is anybody signed out"
        same = client.post(f"/runs/{run}/cancel", headers={"Origin": api.url})
        assert (same.status_code, same.headers["location"]) == (303, f"/runs/{run}")
    assert api.run(run)["status"] == "canceled"


# ---------------------------------------------------------------- what answers carry


def test_every_answer_has_the_policy_and_nothing_is_inline(api: Api) -> None:
    api.deploy(task_entry("greet"))
    api.trigger()
    with browser(api) as client:
        for path in (*PAGES, "/login", "/nothing", "/runs/nothing"):
            answer = client.get(path, headers={"Accept": "text/html"})
            assert answer.headers["content-security-policy"] == rendering.POLICY, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"<[^>]+\s(style|on\w+)=", answer.text), path
            assert not re.search(r"<script(?![^>]*\ssrc=)", answer.text), path
            assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text), path


def test_static_files_are_kept_for_as_long_as_they_stay_the_same(api: Api) -> None:
    with browser(api, None) as client:
        page = client.get("/login").text
        for address in re.findall(r'"(/static/[^"]+)"', page):
            answer = client.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
        assert client.get("/static/style.css?v=old").headers["cache-control"] == "no-cache"
        for name in ("nothing.css", "..%2fsite.py", "%2e%2e/site.py", "htmx"):
            assert client.get(f"/static/{name}").status_code == 404


def test_the_vendored_library_is_the_one_it_says() -> None:
    import hashlib

    content = vendoring.TARGET.read_bytes()
    assert hashlib.sha256(content).hexdigest() == vendoring.SHA256
    assert b'version:"2.0.10"' in content
    assert (vendoring.TARGET.parent / "htmx.LICENSE").read_text().startswith("htmx.min.js is htmx 2.0.10")


def test_what_the_browser_loads_is_small() -> None:
    import gzip

    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in rendering.STATIC.iterdir()}
    assert sizes["app.js"] <= 12 * 1024
    assert sum(sizes.values()) <= 75 * 1024, sizes


def test_a_page_that_fails_says_so_and_never_that_there_is_nothing(api: Api) -> None:
    with browser(api) as client:
        answer = client.get("/runs?status=nonsense")
        assert answer.status_code == 422
        assert "is none of queued" in answer.text
        assert "no run" not in answer.text.lower()
        assert client.get("/runs?since=yesterday").status_code == 422
        gone = client.get("/runs/run_nothing")
        assert gone.status_code == 404
        assert "there is no run" in gone.text


def test_wrong_forms_name_the_field_and_lose_nothing(api: Api) -> None:
    schema = {"type": "object", "properties": {"times": {"type": "integer"}}, "required": ["times"]}
    api.deploy(task_entry("greet", schema))
    with browser(api) as client:
        sent = {"arg.times": "many", "shape.times": "integer", "tags": "a, b"}
        answer = client.post("/tasks/orders/greet/trigger", data=sent)
        assert answer.status_code == 422
        assert "times" in answer.text
        assert 'value="many"' in answer.text
        assert 'value="a, b"' in answer.text
        assert api.claim(timeout=0)["assignments"] == []
        made = client.post("/tasks/orders/greet/trigger", data={**sent, "arg.times": "3"})
        run = api.run(made.headers["location"].rpartition("/")[2])
        assert (run["payload"], run["tags"]) == ({"times": 3}, ["a", "b"])
        answer = client.post(
            "/queues/change", data={"queue": "task/greet", "project": "orders", "concurrency": "x"}
        )
        assert answer.status_code == 422
        assert "concurrency" in answer.text
        wrong = client.post(
            f"/runs/{run['id']}/replay", data={"payload": "{", "version": "", "from_checkpoint": ""}
        )
        assert wrong.status_code == 422
        assert "not JSON" in wrong.text
        typed = client.post("/runs/apply", data={"act": "cancel", "typed": "yes", "word": "no", "task": "greet"})
        assert typed.status_code == 422
        assert api.run(run["id"])["status"] == "queued"


def test_what_is_done_on_a_page_is_in_the_audit_as_the_session_s_key(api: Api) -> None:
    api.deploy()
    run = api.trigger()["id"]
    made = ok(api.admin.post("/api/v1/keys", json={"name": "reader", "role": "read"}))
    with browser(api) as client, browser(api, made["key"]) as reader:
        refused = reader.post(f"/runs/{run}/cancel")
        assert refused.status_code == 403
        assert "takes one with the role admin" in refused.text
        client.post(f"/runs/{run}/cancel")
    found = ok(api.admin.get("/api/v1/audit"))["items"]
    begun = [(entry["key"], entry["role"]) for entry in found if entry["action"] == "session.begin"]
    assert begun == [("reader", "read"), ("settings:admin", "admin")]
    entries = [entry for entry in found if entry["action"] == "run.cancel"]
    assert [(e["outcome"], e["key"], e["target"]) for e in entries] == [
        ("done", "settings:admin", run),
        ("refused", "reader", run),
    ]


# ---------------------------------------------------------------- live


def test_a_stream_brings_what_has_changed_and_nothing_else(api: Api) -> None:
    api.deploy()
    run = api.trigger()["id"]
    with browser(api) as client, client.stream("GET", "/live", params={"of": f"/runs/{run}"}) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data: "))
        first = {}
        while "live_more" not in first:
            told = json.loads(next(lines)[6:])
            first[told["id"]] = told["html"]
        assert "queued" in first["live_head"]
        api.admin.post(f"/api/v1/runs/{run}/cancel")
        told = next(one for one in (json.loads(line[6:]) for line in lines) if one["id"] == "live_head")
        assert "canceled" in told["html"]
    with browser(api) as client:
        assert client.get("/live?of=/nothing").status_code == 404
        assert client.get("/live").status_code == 404


# ---------------------------------------------------------------- what a page costs


@contextmanager
def counted(core: Coordinator) -> Iterator[list[str]]:
    """The statements that readers send meanwhile."""
    engine, sent = core.database._reader, []

    def note(conn, cursor, statement, parameters, context, executemany) -> None:  # type: ignore[no-untyped-def]
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def undisturbed(core: Coordinator) -> None:
    """From now on no duty sends statements of its own."""
    seats = core.seats
    eventually(lambda: len(seats.held) == len(DUTIES), "this coordinator to hold its duties")
    for duty in DUTIES:
        seats.of(duty.name).clear()


def asked_for_data(sent: list[str]) -> list[str]:
    return [one for one in sent if one.lstrip().startswith("SELECT") and " FROM " in one.replace("\n", " ")]


def test_a_page_takes_few_statements_and_none_for_each_row(tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copyfile(migrated, tmp_path / "data" / "coordinator.db")
    with serving(tmp_path / "data") as (api, core), browser(api) as client:
        undisturbed(core)
        schedule = {"cron": "0 4 * * *", "timezone": "UTC", "catchup": "skip"}
        hook = {"path": "in", "secret": None, "scheme": None}
        entries = [task_entry("greet", webhook=hook), task_entry("daily", schedule=schedule)]
        api.deploy(*entries)
        run = api.trigger()["id"]
        pages = [
            *PAGES,
            f"/runs/{run}",
            f"/runs/{run}/logs",
            f"/runs/{run}/logs?children=yes",
            f"/runs/{run}/checkpoints",
            f"/runs/{run}/replay",
        ]

        def costs() -> dict[str, int]:
            found = {}
            for path in pages:
                client.get(path)  # who is signed in is known then
                with counted(core) as sent:
                    assert client.get(path).status_code == 200, path
                found[path] = len(asked_for_data(sent))
            return found

        few = costs()
        for number in range(12):
            api.deploy(*entries, project=f"p{number % 4}")
            api.trigger("orders/greet", tags=["x"])
            ok(api.client(None).post("/hooks/orders/in", content=b"{}"))
            ok(api.admin.put(f"/api/v1/secrets/KEY{number}", json={"value": "v"}))
            ok(api.admin.post("/api/v1/keys", json={"name": f"k{number}"}))
            ok(api.admin.post("/api/v1/events", json={"name": "n"}))
        many = costs()
        assert {path: count for path, count in many.items() if count > 12} == {}
        assert {path: (few[path], many[path]) for path in pages if many[path] > few[path] + 1} == {}
