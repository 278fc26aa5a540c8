"""Many runs at once from the dashboard: a look, a grace, a page that follows it."""

from __future__ import annotations

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
