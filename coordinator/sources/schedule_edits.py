"""Schedules that are made over the API, beside those of the code: any number for a task, each with a payload.

They are known by project, task and name. One of the code has no name, and is changed in the code alone (but paused
and resumed here as well).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from coordinator.foundation import ids
from coordinator.foundation.errors import Conflict, Invalid, invalid_field
from coordinator.runs import targets
from coordinator.runs.targets import Target
from coordinator.sources import schedules
from coordinator.storage.tables import schedules as table
from coordinator.storage.values import decode, encode
from coordinator.tasks import cron, ticks
from coordinator.tasks.payloads import Payloads
from coordinator.wire import FieldProblem, ScheduleCreate, SchedulePatch

_MAX_PAYLOAD = 64 * 1024


def create(conn: Connection, now: float, body: ScheduleCreate, payloads: Payloads) -> tuple[Row[Any], bool]:
    """The schedule, and whether it was made now: the same one sent again is the one that is there.

    Raises NotFound (`unknown_task`), Invalid (`bad_schedule`, `bad_payload`), and Conflict (`schedule_exists`).
    """
    target = targets.resolve(conn, body.task)
    values = _values(target, body.cron, body.timezone, body.catchup, body.payload, payloads)
    place = (table.c.project == target.project) & (table.c.task == target.task) & (table.c.name == body.name)
    known = conn.execute(select(table).where(place).with_for_update()).one_or_none()
    if known is not None and known.removed_at is None:
        if any(getattr(known, name) != value for name, value in values.items()):
            raise Conflict(
                f"the task {target.task!r} has a schedule {body.name!r} that is another: change that one with "
                "PATCH, or give this one another name",
                code="schedule_exists",
            )
        return schedules.get(conn, now, known.id), False
    # one that was removed comes back with its ticks, so that none of them is fired twice
    last = None if known is None else known.last_at
    following = None if body.paused else schedules.following(body.cron, body.timezone, now, last)
    values |= {"paused": body.paused, "next_at": following}
    if known is not None:
        conn.execute(update(table).where(table.c.id == known.id).values(removed_at=None, **values))
        return schedules.get(conn, now, known.id), True
    new = ids.schedule()
    place_values = {"id": new, "project": target.project, "task": target.task, "name": body.name, "created_at": now}
    conn.execute(insert(table).values(**place_values, **values))
    return schedules.get(conn, now, new), True


def change(conn: Connection, now: float, schedule: str, patch: SchedulePatch, payloads: Payloads) -> Row[Any]:
    """The schedule with what `patch` gives. A line that is as it was keeps its next tick; another begins now.

    Raises NotFound, Invalid, and Conflict (`declared_in_code`) for more than `paused` of one that code declares.
    """
    row = schedules.locked(conn, schedule)
    given = patch.model_dump(exclude_unset=True)
    paused = given.pop("paused", None)
    if given and not row.name:
        raise _of_code(row, ", ".join(given))
    if given:
        target = targets.resolve(conn, f"{row.project}/{row.task}")
        payload = given.get("payload", decode(row.payload))
        line, zone = given.get("cron", row.cron), given.get("timezone", row.timezone)
        values = _values(target, line, zone, given.get("catchup", row.catchup), payload, payloads)
        if (line, zone) != (row.cron, row.timezone) and not row.paused:
            values["next_at"] = schedules.following(line, zone, now, row.last_at)
        conn.execute(update(table).where(table.c.id == schedule).values(**values))
    return (
        schedules.get(conn, now, schedule) if paused is None else schedules.set_paused(conn, now, schedule, paused)
    )


def remove(conn: Connection, now: float, schedule: str) -> Row[Any]:
    """Ends a schedule; its runs stay. Raises NotFound, and Conflict (`declared_in_code`)."""
    row = schedules.locked(conn, schedule)
    if not row.name:
        raise _of_code(row, "removed")
    conn.execute(update(table).where(table.c.id == schedule).values(removed_at=now, next_at=None))
    return row


def _of_code(row: Row[Any], what: str) -> Conflict:
    return Conflict(
        f"the schedule of {row.task!r} is declared in its code ({what}): change it there and deploy; "
        "here it can be paused and resumed",
        code="declared_in_code",
    )


def _values(
    target: Target, line: str, timezone: str, catchup: str, payload: dict[str, Any], payloads: Payloads
) -> dict[str, Any]:
    try:
        cron.check(line, timezone)
    except cron.BadSchedule as error:
        (field,) = error.fields
        raise invalid_field(field.path, field.message) from None
    schema = decode(target.schema)
    # as the first tick will have it, and as those after it
    for previous in (None, 0.0):
        whole = {**payload, **ticks.arguments(schema, "UTC", 86400.0, previous)}
        try:
            payloads.check(target.deployment, target.task, target.schema, whole, target.project)
        except Invalid as error:
            fields = [FieldProblem(path=f"payload.{f.path}", message=f.message) for f in error.fields]
            raise Invalid(f"payload: {error.message}", code="bad_payload", fields=fields) from None
    text = encode(payload, "payload", _MAX_PAYLOAD).text
    return {"cron": line, "timezone": timezone, "catchup": catchup, "payload": text}
