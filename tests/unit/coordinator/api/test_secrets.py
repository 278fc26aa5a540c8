"""Secrets over HTTP: they go in, and never come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.access.vault import BadMasterKey
from coordinator.app import open_coordinator
from coordinator.settings import Settings
from tests.unit.coordinator.conftest import ADMIN, Api, error, ok, serving

PATH = "/api/v1/secrets"
VALUE = "sk_live_nobody-reads-this"


def test_set_list_and_remove(api: Api) -> None:
    made = api.admin.put(f"{PATH}/STRIPE", json={"value": VALUE})
    assert made.status_code == 201
    own = ok(api.admin.put(f"{PATH}/STRIPE", json={"value": VALUE}, params={"project": "orders"}))
    again = api.admin.put(f"{PATH}/STRIPE", json={"value": VALUE + "2"})
    assert (again.status_code, again.json()["created_at"]) == (200, made.json()["created_at"])
    assert own | {"created_at": "", "updated_at": ""} == {
        "name": "STRIPE",
        "project": "orders",
        "created_at": "",
        "updated_at": "",
    }
    page = ok(api.admin.get(PATH, params={"limit": 1}))
    rest = ok(api.admin.get(PATH, params={"cursor": page["next"]}))
    assert [item["project"] for item in page["items"] + rest["items"]] == [None, "orders"]
    assert ok(api.admin.delete(f"{PATH}/STRIPE", params={"project": "orders"})) == own
    error(api.admin.delete(f"{PATH}/STRIPE", params={"project": "orders"}), 404, "not_found")
    assert [item["project"] for item in ok(api.admin.get(PATH))["items"]] == [None]


def test_no_answer_and_no_file_has_a_value(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (api, _):
        answers = [
            api.admin.put(f"{PATH}/KEY", json={"value": VALUE}),
            api.admin.get(PATH),
            api.admin.get(f"{PATH}/KEY"),
            api.admin.put(f"{PATH}/1KEY", json={"value": VALUE}),
            api.admin.put(f"{PATH}/KEY", json={"value": VALUE + "\0"}),
            api.admin.put(f"{PATH}/KEY", json={"value": [VALUE]}),
            api.admin.put(f"{PATH}/KEY", json={"valve": VALUE}),
            api.admin.delete(f"{PATH}/KEY"),
        ]
        assert [answer.status_code for answer in answers] == [201, 200, 405, 422, 422, 422, 422, 200]
        for answer in answers:
            assert VALUE not in answer.text
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file():
                assert VALUE.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("MY-KEY", {"value": "v"}, "name"),
        ("a/b", {"value": "v"}, "name"),
        ("KEY", {"value": ""}, "value"),
        ("KEY", {}, "value"),
    ],
)
def test_what_is_wrong_is_named(api: Api, name: str, body: dict[str, str], field: str) -> None:
    answer = api.admin.put(f"{PATH}/{name}", content=json.dumps(body), headers={"content-type": "application/json"})
    assert (answer.status_code, [f["path"] for f in answer.json()["error"]["fields"]]) == (422, [field])


def test_a_master_key_that_others_can_read_stops_secrets_and_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as (api, _):
        ok(api.admin.put(f"{PATH}/KEY", json={"value": VALUE}))
        (data / "master-keys").chmod(0o644)
        refused = api.admin.put(f"{PATH}/KEY", json={"value": VALUE})
        assert "chmod 600" in error(refused, 503, "master_key")["message"]
    with pytest.raises(BadMasterKey, match="chmod 600"):
        open_coordinator(Settings(data=data, admin_key=ADMIN))
    (data / "master-keys").chmod(0o600)
    with serving(data) as (api, _):
        assert api.admin.put(f"{PATH}/KEY", json={"value": VALUE}).status_code == 200


def test_the_file_of_the_settings_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMOVAR_COORDINATOR_MASTER_KEY_FILE", str(tmp_path / "elsewhere"))
    with serving(tmp_path / "data") as (api, _):
        ok(api.admin.put(f"{PATH}/KEY", json={"value": VALUE}))
    assert (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "data" / "master-keys").exists()


def test_only_an_admin_sets_secrets(api: Api) -> None:
    error(api.runner.put(f"{PATH}/KEY", json={"value": VALUE}), 403, "forbidden")
    error(api.client(None).get(PATH), 401, "unauthenticated")


def test_the_master_key_is_rotated_and_the_old_one_goes_when_nothing_needs_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (api, _):
        file = tmp_path / "data" / "master-keys"
        first = ok(api.admin.post(f"{PATH}/rotate", json={}))
        assert (first["sealed"], first["dropped"]) == (0, 0)
        assert api.admin.put(f"{PATH}/KEY", json={"value": VALUE}).status_code == 201
        before = file.read_text()
        second = ok(api.admin.post(f"{PATH}/rotate", json={}))
        assert (second["sealed"], second["unopened"], second["dropped"]) == (1, 0, 0)
        assert second["key"] != first["key"]
        assert file.read_text().startswith(before)
        third = ok(api.admin.post(f"{PATH}/rotate", json={"drop_old": True}))
        assert (third["sealed"], third["dropped"]) == (1, 2)
        assert len([line for line in file.read_text().splitlines() if not line.startswith("#")]) == 1
        assert file.stat().st_mode & 0o777 == 0o600
        # and what is there opens: it is sealed anew once more
        assert ok(api.admin.post(f"{PATH}/rotate", json={}))["sealed"] == 1
        audit = [entry["action"] for entry in ok(api.admin.get("/api/v1/audit"))["items"]]
        assert audit.count("secret.rotate") == 4


def test_a_key_file_that_cannot_be_written_or_is_lost_is_not_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (api, _):
        assert api.admin.put(f"{PATH}/KEY", json={"value": VALUE}).status_code == 201
        file = tmp_path / "data" / "master-keys"
        kept = file.read_bytes()
        file.unlink()
        answer = error(api.admin.post(f"{PATH}/rotate", json={}), 503, "master_key")
        assert "put the file back" in answer["message"]
        assert not file.exists()
        file.write_bytes(kept)
        file.chmod(0o600)
        assert ok(api.admin.post(f"{PATH}/rotate", json={}))["sealed"] == 1


def test_only_an_admin_rotates(api: Api) -> None:
    own = api.admin.post("/api/v1/keys", json={"name": "own", "role": "read", "project": None}).json()
    answer = api.admin.post(f"{PATH}/rotate", json={}, headers={"Authorization": f"Bearer {own['key']}"})
    error(answer, 403, "forbidden")
