"""What a run hears of its waits: rows as `wire.WaitAnswer`, with their values brought in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from coordinator.context import Coordinator
from coordinator.foundation.errors import Invalid
from coordinator.foundation.limits import CHILDREN_INLINE
from coordinator.runs import children
from coordinator.runs.views import error
from coordinator.storage.values import Stored, decode
from coordinator.wire import ChildResult, WaitAnswer


async def of(core: Coordinator, now: float, row: Row[Any]) -> WaitAnswer:
    """`now` is the database's time, for what is left of a pending wait."""
    answer = WaitAnswer(state=row.status)
    if row.status == "pending" and row.due_at is not None:
        answer.left = max(0.0, row.due_at - now)
    if row.kind == "token":
        answer.id = core.secrets.token_id(row.run_id, row.key)
        answer.url = f"{core.settings.resolved_public_url}/tokens/{answer.id}"
    if row.kind in ("token", "event"):
        answer.value = await core.values.get(Stored(row.value, row.value_blob))
    if row.runs is not None:
        answer.runs = decode(row.runs)
    if row.status == "done" and row.kind in ("run", "batch"):
        answer.children = await _children(core, answer.runs or [])
    return answer


async def child(core: Coordinator, row: Row[Any], index: int) -> ChildResult:
    """How one of the children of a wait has ended, however large its result. Raises Invalid."""
    names = decode(row.runs) or []
    if index >= len(names):
        raise Invalid(f"index: {index} of {len(names)} runs")
    (found,) = await core.database.read(children.ends, [names[index]])
    return await _child(core, found)


async def _children(core: Coordinator, names: list[str]) -> list[ChildResult]:
    """In their order; what is beyond the limit together is left out, but a single one is whole."""
    found, size = [], 0
    for row in await core.database.read(children.ends, names):
        size += len(row.result or "") + len(row.error or "")
        if len(names) > 1 and (size > CHILDREN_INLINE or row.result_blob is not None):
            found.append(ChildResult(run=row.id, status=row.status, omitted=True))
        else:
            found.append(await _child(core, row))
    return found


async def _child(core: Coordinator, row: Row[Any]) -> ChildResult:
    return ChildResult(
        run=row.id,
        status=row.status,
        result=await core.values.get(Stored(row.result, row.result_blob)),
        error=error(row.error),
    )
