"""Files over HTTP: sent in parts, gone on with where they end, read in ranges, kept as long as a run has them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from coordinator.foundation.limits import FILE_PART
from coordinator.wire import FLEET
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, error, ok, serving

PATH = "/api/v1/files"
TAKES_ANYTHING = task_entry("take", {"type": "object"})
DATA = bytes(range(256)) * 4096


def announce(api: Api, name: str = "table.csv", data: bytes = DATA, **more: Any) -> dict[str, Any]:
    answer = api.admin.post(PATH, json={"name": name, "size": len(data), **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def part(api: Api, file: str, offset: int, data: bytes) -> Any:
    return api.admin.patch(f"{PATH}/{file}", content=data, headers={"Upload-Offset": str(offset)})


def uploaded(api: Api, data: bytes = DATA, **more: Any) -> str:
    file = announce(api, data=data, **more)["id"]
    assert ok(part(api, file, 0, data))["received"] == len(data)
    return str(file)


def test_it_is_sent_in_parts_and_read_whole_and_in_ranges(api: Api) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    file = announce(api, sha256=digest, media_type="text/csv")
    assert (file["received"], file["run"], file["project"]) == (0, None, None)
    error(api.admin.get(f"{PATH}/{file['id']}/content"), 409, "not_there")
    assert ok(part(api, file["id"], 0, DATA[:1000]))["received"] == 1000
    assert ok(api.admin.get(f"{PATH}/{file['id']}"))["received"] == 1000
    done = ok(part(api, file["id"], 1000, DATA[1000:]))
    assert (done["received"], done["sha256"], done["media_type"]) == (len(DATA), digest, "text/csv")
    whole = api.admin.get(f"{PATH}/{file['id']}/content")
    assert whole.content == DATA
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''table.csv"
    assert (whole.headers["content-type"], whole.headers["etag"]) == ("application/octet-stream", f'"{digest}"')
    some = api.admin.get(f"{PATH}/{file['id']}/content", headers={"Range": "bytes=10-19"})
    assert (some.status_code, some.content) == (206, DATA[10:20])


def test_a_part_that_does_not_go_on_where_the_file_ends_changes_nothing(api: Api) -> None:
    file = announce(api)["id"]
    ok(part(api, file, 0, DATA[:10]))
    for offset in (0, 9, 11, len(DATA)):
        answer = error(part(api, file, offset, b"x"), 409, "wrong_offset")
        assert "there are 10 bytes" in answer["message"]
    ok(part(api, file, 10, DATA[10:]))
    # the answer to the last part was lost: it is told again
    assert ok(part(api, file, len(DATA), b""))["received"] == len(DATA)
    error(part(api, file, 10, b"x"), 409, "wrong_offset")
    assert api.admin.get(f"{PATH}/{file}/content").content == DATA


def test_what_is_not_what_was_announced_is_not_kept(api: Api) -> None:
    file = announce(api, sha256="0" * 64)["id"]
    answer = error(part(api, file, 0, DATA), 422, "invalid")
    assert answer["fields"][0]["path"] == "sha256"
    error(api.admin.get(f"{PATH}/{file}"), 404, "not_found")
    more = announce(api, data=b"abc")["id"]
    error(part(api, more, 0, b"abcd"), 413, "too_large")
    assert ok(api.admin.get(f"{PATH}/{more}"))["received"] == 0
    error(part(api, announce(api)["id"], 0, b"x" * (FILE_PART + 1)), 413, "too_large")


def test_an_empty_file_is_there_at_once(api: Api) -> None:
    file = announce(api, data=b"")
    assert (file["received"], file["sha256"]) == (0, hashlib.sha256(b"").hexdigest())
    assert api.admin.get(f"{PATH}/{file['id']}/content").content == b""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "", "size": 1}, "name"),
        ({"name": "../x", "size": 1}, "name"),
        ({"name": "/etc/passwd", "size": 1}, "name"),
        ({"name": "a//b", "size": 1}, "name"),
        ({"name": "a\\b", "size": 1}, "name"),
        ({"name": "a\nb", "size": 1}, "name"),
        ({"name": "a\u202eb", "size": 1}, "name"),
        ({"name": "x" * 256, "size": 1}, "name"),
        ({"name": "a", "size": -1}, "size"),
        ({"name": "a", "size": 1, "sha256": "abc"}, "sha256"),
        ({"name": "a", "size": 1, "media_type": "text"}, "media_type"),
        ({"name": "a", "size": 1, "path": "b"}, "path"),
    ],
)
def test_what_can_be_no_file_is_refused_by_its_field(api: Api, body: dict[str, Any], field: str) -> None:
    answer = api.admin.post(PATH, json=body)
    assert answer.status_code == 422, answer.text
    assert [problem["path"] for problem in answer.json()["error"]["fields"]] == [field]


def test_a_file_larger_than_the_setting_is_refused_before_any_of_it(api: Api) -> None:
    answer = error(api.admin.post(PATH, json={"name": "a", "size": 6 * 1024**3}), 413, "too_large")
    assert "SAMOVAR_COORDINATOR_FILE_BYTES" in answer["message"]


def test_a_payload_keeps_what_it_refers_to_and_names_what_is_not_there(api: Api) -> None:
    api.deploy(TAKES_ANYTHING)
    given, missing = uploaded(api), "file_" + "0" * 32
    begun = announce(api)["id"]
    run = api.trigger("take", payload={"data": {"$file": given, "name": "a"}, "more": [{"$file": given}]})
    for file, words in ((missing, "it is another's"), (begun, "it is another's"), ("file_1", "is no id of a file")):
        body = {"payload": {"data": [{"x": {"$file": file}}]}}
        problem = error(api.admin.post("/api/v1/tasks/take/runs", json=body), 422, "invalid")["fields"][0]
        assert problem["path"].startswith("data[0].x")
        assert words in problem["message"]
    # a replay of it has the same, and so has a run of a batch
    replayed = ok(api.admin.post(f"/api/v1/runs/{run['id']}/replay", json={}))
    batch = {"items": [{"payload": {"data": {"$file": given}}}, {"payload": {"data": 1}}]}
    assert len(ok(api.admin.post("/api/v1/tasks/take/runs/batch", json=batch))["items"]) == 2
    many = [{"$file": f"file_{number:032x}"} for number in range(101)]
    body = {"payload": {"data": many}}
    assert "100 at most" in error(api.admin.post("/api/v1/tasks/take/runs", json=body), 422, "invalid")["message"]
    # each of these may read it, and nobody else's file
    other = uploaded(api, data=b"other", name="other")
    for _ in (run, replayed):
        attempt = api.claim_one()
        assert read(api, attempt, given).content == DATA
        assert read(api, attempt, other).status_code == 404


def read(api: Api, attempt: dict[str, Any], file: str, **headers: str) -> Any:
    headers["Authorization"] = f"Bearer {attempt['secret']}"
    path = f"{FLEET}/attempts/{attempt['attempt']}/files/{file}?token={attempt['token']}"
    return api.admin.get(path, headers=headers)


def keep(api: Api, attempt: dict[str, Any], name: str, data: bytes) -> Any:
    """What the sidecar does for an artifact."""
    headers = {"Authorization": f"Bearer {attempt['secret']}"}
    path = f"{FLEET}/attempts/{attempt['attempt']}"
    body = {"token": attempt["token"], "name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    answer = api.admin.post(f"{path}/artifact", json=body, headers=headers)
    if not answer.is_success:
        return answer
    file, offset = answer.json()["id"], answer.json()["received"]
    path = f"{path}/files/{file}?token={attempt['token']}&offset={offset}"
    return api.admin.patch(path, content=data[offset:], headers=headers)


def test_a_run_keeps_files_by_name_the_newest_of_each(api: Api) -> None:
    api.deploy(TAKES_ANYTHING)
    api.trigger("take", payload={"data": 1})
    attempt = api.claim_one()
    for name, data in (("a.txt", b"first"), ("plots/b.png", DATA), ("a.txt", b"second")):
        assert ok(keep(api, attempt, name, data))["received"] == len(data)
    # the same again is the same
    assert ok(keep(api, attempt, "a.txt", b"second"))["received"] == 6
    path = f"/api/v1/runs/{attempt['run']}/files"
    page = ok(api.admin.get(path, params={"limit": 1}))
    rest = ok(api.admin.get(path, params={"cursor": page["next"]}))
    assert [(f["name"], f["size"]) for f in page["items"] + rest["items"]] == [
        ("a.txt", 6),
        ("plots/b.png", len(DATA)),
    ]
    assert rest["items"][0]["run"] == attempt["run"]
    assert api.admin.get(f"{path}/a.txt").content == b"second"
    assert api.admin.get(f"{path}/plots/b.png").content == DATA
    assert "it keeps: a.txt, plots/b.png" in error(api.admin.get(f"{path}/c.txt"), 404, "not_found")["message"]
    api.attempt(attempt, "finish", outcome="completed", result=None)
    stale = keep(api, attempt, "late.txt", b"late")
    error(stale, 409, "stale_attempt")
    assert len(ok(api.admin.get(path))["items"]) == 2


def test_a_run_keeps_only_so_much(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (api, core):
        core.settings.run_file_bytes = 100
        api.deploy(TAKES_ANYTHING)
        api.trigger("take", payload={"data": 1})
        attempt = api.claim_one()
        ok(keep(api, attempt, "a", b"x" * 60))
        answer = error(keep(api, attempt, "b", b"x" * 41), 413, "too_large")
        assert "SAMOVAR_COORDINATOR_RUN_FILE_BYTES" in answer["message"]
        ok(keep(api, attempt, "b", b"x" * 40))
        ok(keep(api, attempt, "a", b"y" * 60))


def test_code_that_is_not_trusted_reads_what_it_was_given_and_no_more(api: Api) -> None:
    entry = {**TAKES_ANYTHING, "options": {**TAKES_ANYTHING["options"], "trust": "untrusted"}}
    api.deploy(entry)
    given = uploaded(api)
    files = "/api/v1/files?project=orders"
    other = api.admin.post(files, json={"name": "other", "size": 5}).json()["id"]
    ok(part(api, other, 0, b"other"))
    api.trigger("take", payload={"data": {"$file": given}})
    attempt = api.claim_one()
    assert read(api, attempt, given).content == DATA
    assert read(api, attempt, given, Range="bytes=0-3").content == DATA[:4]
    error(read(api, attempt, other), 404, "not_found")
    ok(keep(api, attempt, "out", b"result"))


def test_a_projects_key_sees_its_own(api: Api) -> None:
    api.deploy(TAKES_ANYTHING)
    api.deploy(TAKES_ANYTHING, project="shop")
    keys = {}
    for project in ("orders", "shop"):
        body = {"name": f"k-{project}", "role": "trigger", "project": project}
        keys[project] = api.admin.post("/api/v1/keys", json=body).json()["key"]
    client = api.client(keys["orders"])
    made = client.post(PATH, json={"name": "a", "size": 1})
    assert (made.status_code, made.json()["project"]) == (201, "orders")
    file = made.json()["id"]
    assert client.patch(f"{PATH}/{file}", content=b"x", headers={"Upload-Offset": "0"}).is_success
    other = api.client(keys["shop"])
    for answer in (
        other.get(f"{PATH}/{file}"),
        other.get(f"{PATH}/{file}/content"),
        other.patch(f"{PATH}/{file}", content=b"x", headers={"Upload-Offset": "1"}),
    ):
        error(answer, 404, "not_found")
    error(other.post(f"{PATH}?project=orders", json={"name": "a", "size": 1}), 404, "not_found")
    assert client.get(f"{PATH}/{file}/content").content == b"x"
    for one in (client, other):
        one.close()
