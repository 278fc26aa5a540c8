"""What is written for an attempt waits in its project's line, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.attempts import attempts
from coordinator.attempts.owners import Owners
from coordinator.context import Coordinator
from coordinator.foundation import turns
from coordinator.storage.database import Call, Database
from tests.conformance.attempts.joint import batch, item
from tests.unit.coordinator.conftest import Api, ok

Served = tuple[Api, Coordinator]


def claimed(api: Api) -> list[dict[str, Any]]:
    """An attempt of each of two projects."""
    found = []
    for project in ("orders", "people"):
        api.deploy(project=project)
        api.trigger(f"{project}/greet")
        found.append(api.claim_one())
    return found


def test_an_attempts_line_is_looked_up_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    api, core = served
    one, two = claimed(api)
    names = {one["attempt"]: "attempts:orders", two["attempt"]: "attempts:people"}
    database = Database(core.settings.resolved_database_url)
    reads = 0
    read = database.read

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*arguments)

    monkeypatch.setattr(database, "read", counted)

    async def main() -> None:
        owners = Owners(database)
        assert await owners.lines([*names, "att_none"]) == {**names, "att_none": turns.OWN}
        assert [await owners.line(name) for name in names] == list(names.values())
        assert reads == 1
        owners.note("att_new", "orders")
        assert await owners.line("att_new") == "attempts:orders"
        assert reads == 1

    asyncio.run(main())
    database.close()


class Counted(str):
    """A name that counts how often it is looked at."""

    looks = 0

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()

    __eq__ = str.__eq__


def test_to_know_one_attempt_no_other_is_looked_at(served: Served) -> None:
    """A coordinator knows thousands, and asks at every request."""
    _, core = served
    owners = Owners(core.database)
    for number in range(1000):
        owners.note(Counted(f"att_{number}"), "orders")

    async def main() -> None:
        Counted.looks = 0
        assert await owners.lines(["att_1", "att_2"]) == {"att_1": "attempts:orders", "att_2": "attempts:orders"}
        assert Counted.looks < 10

    asyncio.run(main())


def test_the_items_of_a_batch_wait_in_the_lines_of_their_projects(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, core = served
    one, two = claimed(api)
    lines: list[str | None] = []
    write_each = core.database.write_each

    def noted(calls: Sequence[Call]) -> Any:
        lines.extend(call.line for call in calls)
        return write_each(calls)

    monkeypatch.setattr(core.database, "write_each", noted)
    found = batch(api, one, item(one, "start", start="warm"), item(two, "start", start="warm"))
    assert [each.status for each in found] == [200, 200]
    assert lines == ["attempts:orders", "attempts:people"]


def test_a_single_call_waits_in_its_projects_line(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    api, core = served
    one, _ = claimed(api)
    lines: list[str] = []
    write = core.database.write

    async def noted(function: Any, *arguments: Any) -> Any:
        if function is attempts.start:
            lines.append(turns.lane.get())
        return await write(function, *arguments)

    monkeypatch.setattr(core.database, "write", noted)
    ok(api.attempt(one, "start", start="warm"))
    assert lines == ["attempts:orders"]
