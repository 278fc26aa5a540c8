"""What a container and a client may try with files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from samovar import wire
from samovar.calling import files as saving

from coordinator.wire import FLEET
from tests.security.attempts import attempt
from tests.unit.coordinator.api.test_files import PATH, TAKES_ANYTHING, announce, part
from tests.unit.coordinator.conftest import Api, error, ok, serving
from tests.unit.sidecar.test_secrets import given as bound
from tests.unit.sidecar.test_sidecar import ATTEMPT, World, run
from tests.waiting import eventually_async

FILE = "file_" + "0" * 32


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("data")) as (made, _):
        made.deploy(TAKES_ANYTHING)
        made.deploy(TAKES_ANYTHING, project="shop")
        yield made


def own(api: Api, project: str) -> str:
    file = str(api.admin.post(f"{PATH}?project={project}", json={"name": "a", "size": 1}).json()["id"])
    ok(part(api, file, 0, b"x"))
    return file


@attempt("client", "refer to another project's file in a payload", "files are their project's", "422")
def test_another_projects_file_is_not_given(api: Api) -> None:
    body = {"payload": {"data": {"$file": own(api, "shop")}}}
    problem = error(api.admin.post("/api/v1/tasks/orders/take/runs", json=body), 422, "invalid")
    assert "it is another's" in problem["message"]
    body = {"payload": {"data": {"$file": own(api, "orders")}}}
    assert api.admin.post("/api/v1/tasks/orders/take/runs", json=body).status_code == 201


@attempt("process 1", "write into a file that another attempt sends", "a file is its attempt's", "404")
def test_another_attempts_file_is_not_written(api: Api) -> None:
    for _ in range(2):
        api.trigger("orders/take", payload={"data": 1})
    one, other = api.claim_one(), api.claim_one()

    def headers(of: dict[str, Any]) -> dict[str, str]:
        return {"Authorization": f"Bearer {of['secret']}"}

    digest = hashlib.sha256(b"data").hexdigest()
    body = {"token": one["token"], "name": "a", "size": 4, "sha256": digest}
    path = f"{FLEET}/attempts/{one['attempt']}/artifact"
    file = ok(api.admin.post(path, json=body, headers=headers(one)))["id"]
    theirs = f"{FLEET}/attempts/{other['attempt']}/files/{file}?token={other['token']}&offset=0"
    error(api.admin.patch(theirs, content=b"evil", headers=headers(other)), 404, "not_found")
    # and nobody uploads into it
    error(part(api, file, 0, b"evil"), 404, "not_found")
    mine = f"{FLEET}/attempts/{one['attempt']}/files/{file}?token={one['token']}&offset=0"
    assert ok(api.admin.patch(mine, content=b"data", headers=headers(one)))["received"] == 4


@attempt(
    "client",
    "upload more than was announced, or more at once than a part has",
    "size of a part and of the file",
    "413",
)
def test_more_than_was_announced_is_refused(api: Api) -> None:
    file = announce(api, data=b"abc")["id"]
    error(part(api, file, 0, b"abcd"), 413, "too_large")
    error(part(api, announce(api, data=b"x" * 9_000_000)["id"], 0, b"x" * 8_500_000), 413, "too_large")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "a//x", "./x", "a/."])
@attempt(
    "run", "keep a file whose name leads out of the folder it is saved in", "names are relative paths", "refused"
)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no name that can be written"):
        saving.below(str(tmp_path), name)
    assert saving.below(str(tmp_path), "a/b.txt") == os.path.join(str(tmp_path), "a", "b.txt")


# ---------------------------------------------------------------- the socket of a run's process


async def ask(w: World, **request: Any) -> tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(w.directory / "c" / "c1" / wire.RUN_SOCKET_NAME)
    writer.write(json.dumps(request).encode() + b"\n")
    return json.loads(await asyncio.wait_for(reader.readline(), 20)), reader, writer


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(request, code, id=name, marks=attempt("process 1", f"files: {name}", "strict requests", code))
        for name, request, code in [
            ("no id of a file", {"ask": "get", "file": "../../etc/passwd"}, "bad_request"),
            ("an id with a query of its own", {"ask": "get", "file": f"{FILE}?token=1&x="}, "bad_request"),
            ("an offset before the file", {"ask": "get", "file": FILE, "offset": -1}, "bad_request"),
            (
                "a size that is no number",
                {"ask": "put", "name": "a", "size": "x", "sha256": "0" * 64},
                "bad_request",
            ),
            ("a digest that is none", {"ask": "put", "name": "a", "size": 1, "sha256": "x"}, "bad_request"),
            ("a request of its own making", {"ask": "delete", "file": FILE}, "unknown_type"),
            ("no ticket", {"ask": "get", "file": FILE, "ticket": None}, "no_ticket"),
            ("half a surrogate as a ticket", {"ask": "get", "file": FILE, "ticket": "\ud800"}, "no_ticket"),
        ]
    ],
)
def test_what_is_no_request_reaches_nobody(request_: dict[str, Any], code: str) -> None:
    async def test(w: World) -> None:
        _, ticket = await bound(w, {"values": {}})
        answer, _, writer = await ask(w, **{"ticket": ticket, **request_})
        assert answer["error"]["code"] == code
        assert [action for action, _, _ in w.coordinator.calls if action != "secrets"] == []
        writer.close()

    run(test)


@attempt("run", "go on with a file after the run's end", "transfers end with the run", "closed")
def test_what_is_under_way_ends_with_the_attempt() -> None:
    async def test(w: World) -> None:
        harness, ticket = await bound(w, {"values": {}})
        await harness.ask("started", attempt=ATTEMPT)
        w.coordinator.answers["artifact"] = {"id": FILE, "received": 0, "size": 1_000_000}
        asked = {"ask": "put", "name": "a", "size": 1_000_000, "sha256": "0" * 64}
        answer, reader, writer = await ask(w, ticket=ticket, **asked)
        assert answer["ok"]
        await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, lines=[])
        closed = asyncio.ensure_future(reader.read())
        await eventually_async(closed.done, "the connection to end", 10)
        writer.close()

    run(test)
