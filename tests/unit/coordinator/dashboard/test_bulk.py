"""Many runs at once from the dashboard: a look, a grace, a page that follows it."""

from __future__ import annotations

import html
import re

import pytest

from coordinator.runs import runs
from tests.unit.coordinator.conftest import Api, error, ok
from tests.unit.coordinator.dashboard.test_site import browser
from tests.waiting import eventually


def test_it_begins_after_a_grace_and_is_taken_back_on_its_page(api: Api) -> None:
    api.deploy()
    marked, other = api.trigger()["id"], api.trigger()["id"]
    with browser(api) as client:
        form = [("act", "cancel"), ("run", marked), ("back", "/runs?tag=x")]
        content = "&".join(f"{name}={value}" for name, value in form)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        look = client.post("/runs/preview", content=content, headers=headers)
        assert "1 marked ones" in look.text
        made = client.post("/runs/apply", content=content, headers=headers)
        path = made.headers["location"]
        text = client.get(path).text
        assert "Nothing was done yet: it begins" in text
        assert "1 marked ones" in text
        assert client.post(f"{path}/take-back").headers["location"] == path
        assert "taken back before anything was done" in client.get(path).text
        assert {api.run(run)["status"] for run in (marked, other)} == {"queued"}
        listed = client.get("/bulk").text
        assert "taken back" in listed
        assert path in listed
        refused = client.post(f"{path}/begin")
        assert (refused.status_code, "nothing to begin" in refused.text) == (409, True)
    made = ok(api.admin.post("/api/v1/keys", json={"name": "reader", "role": "read"}))
    with browser(api, made["key"]) as reader:
        assert reader.get(path).status_code == 200
        assert reader.post(f"{path}/take-back").status_code == 403


def test_its_page_says_how_far_it_is_and_what_was_not_done(api: Api) -> None:
    api.deploy()
    ended, waiting = api.trigger()["id"], api.trigger()["id"]
    ok(api.admin.post(f"/api/v1/runs/{ended}/cancel"))
    body = {"act": "replay", "filter": {"task": "greet"}, "grace": "1h"}
    id = ok(api.admin.post("/api/v1/bulk", json=body))["id"]
    assert ok(api.admin.get(f"/api/v1/bulk/{id}"))["status"] == "waiting"
    ok(api.admin.post(f"/api/v1/bulk/{id}/begin"))
    eventually(lambda: ok(api.admin.get(f"/api/v1/bulk/{id}"))["status"] == "done", "the duty to do it")
    (done, problem) = sorted(ok(api.admin.get(f"/api/v1/bulk/{id}/runs"))["items"], key=lambda one: one["run"])
    assert (done["run"], problem["run"], done["problem"]) == (ended, waiting, None)
    with browser(api) as client:
        text = client.get(f"/bulk/{id}").text
    assert "2 of 2: 1 done, 1 not" in text
    assert "only a run that has ended is replayed" in text
    assert f"/runs/{done['replay']}" in text
    entries = ok(api.admin.get("/api/v1/audit"))["items"]
    noted = {entry["action"]: entry for entry in entries}
    assert noted["bulk.create"]["target"] == noted["bulk.begin"]["target"] == id
    assert noted["bulk.create"]["detail"]["act"] == "replay"
    assert (noted["run.replay"]["target"], noted["run.replay"]["detail"]["bulk"]) == (done["replay"], id)
    assert noted["run.replay"]["key"] == "settings:admin"
    error(api.admin.post(f"/api/v1/bulk/{id}/take-back"), 409, "over")
    error(api.admin.get("/api/v1/bulk/blk_none/runs"), 404, "not_found")


def test_all_that_fit_are_those_of_the_list_whatever_it_is_narrowed_by(api: Api) -> None:
    """Else more would be canceled than was shown."""
    api.deploy()
    named, other = api.trigger(idempotency_key="order 7")["id"], api.trigger()["id"]
    with browser(api) as client:
        page = client.get("/runs?text=order+7&status=queued").text
        assert (named in page, other in page) == (True, False)
        assert 'id="more-filters" open' in page
        form = dict(
            re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition('id="bulk"')[2])
        )
        form = {name: html.unescape(value) for name, value in form.items()}
        assert form.items() >= {"text": "order 7", "status": "queued"}.items()
        look = client.post("/runs/preview", data={**form, "act": "cancel", "all": "yes"}).text
        assert "Cancel 1 run?" in look
        assert "queued, with the text order 7" in look
        parents = client.get(f"/runs?parent={other}").text
        assert named not in parents
        look = client.post("/runs/preview", data={"act": "cancel", "all": "yes", "parent": other}).text
        assert "Cancel 0 runs?" in look
        wrong = client.get("/runs?longer=long")
        assert (wrong.status_code, "longer" in wrong.text) == (422, True)
        assert 'value="long"' in wrong.text, "nothing is lost"


def test_a_list_says_how_far_it_has_looked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.deploy()
    named = api.trigger(idempotency_key="order 7")["id"]
    for _ in range(3):
        api.trigger()
    monkeypatch.setattr(runs, "_LOOK", 2)
    with browser(api) as client:
        page = client.get("/runs?text=order+7").text
        assert "Looked back to" in page
        assert "No run fits" not in page
        following = html.unescape(re.findall(r'data-key="\]" href="([^"]+)"', page)[0])
        assert named in client.get(following).text
        look = client.post("/runs/preview", data={"act": "cancel", "all": "yes", "text": "order 7"}).text
        assert "Cancel at least 1 run?" in look
