"""A run that failed for good: it stands in the dead-letter list, and its `on_failure` task is told."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Connection, Row, update

from coordinator.foundation import again
from coordinator.foundation.errors import NotFound, Refused
from coordinator.foundation.limits import MAX_TOLD
from coordinator.foundation.states import DEAD
from coordinator.runs import plans, targets, triggers, views
from coordinator.storage.blobs import stored_in
from coordinator.storage.tables import runs
from coordinator.storage.values import Stored, decode, digest, encode, encode_small
from coordinator.tasks.arguments import declared
from coordinator.tasks.index import TaskOptions

log = structlog.get_logger()


def tell(conn: Connection, now: float, run: Row[Any], options: TaskOptions, queued: list[Row[Any]]) -> set[str]:
    """Triggers the `on_failure` task of `run`, which has just become one of DEAD; the topics to wake.
    What it adds to `queued` the caller brings into their lanes, with `lanes.enter`.

    In the transaction that ended the run: it is told once or not ended. A handler's own failure is not told to
    anybody, or it would be told for ever.
    """
    if options.on_failure is None or run.status not in DEAD or run.origin == "failure":
        return set()
    try:
        with conn.begin_nested():
            target = targets.resolve(conn, f"{run.project}/{options.on_failure}", run.version)
            payload = encode(_arguments(conn, decode(target.schema), run), "payload")
            plan = plans.Plan(
                target=target,
                payload=payload,
                fingerprint=digest({"failure": run.id}),
                memory=target.options.memory,
                priority=target.options.priority,
                ttl=target.options.ttl,
                tags=decode(run.tags),
                origin=plans.Origin("failure", run.id),
            )
            return triggers.create(conn, now, plan, Stored(payload.text, None, payload.size), queued).topics
    except Refused as error:
        # the end of a run does not hang on its handler: a queue that is full and refuses is heard of in the log
        log.warning(
            "an on_failure task can't be triggered", run=run.id, task=options.on_failure, problem=str(error)
        )
        return set()


def _arguments(conn: Connection, schema: dict[str, Any], run: Row[Any]) -> dict[str, Any]:
    """The payload of the handler's run: `run`, where the task declares it.

    A payload that does not fit the row of the handler's run is left out (`payload` is null), so that a failure is
    always told.
    """
    shown = views.run_summary(run).model_dump(mode="json")
    payload = run.payload.encode() if run.payload is not None else None
    if run.payload_blob is not None and (blobs := stored_in(conn)) is not None:
        payload = again.brought(
            f"payload:{run.id}", run.project, lambda: blobs.get_small(run.payload_blob, MAX_TOLD)
        )
    if payload is not None and len(payload) + len(encode_small(shown)) < MAX_TOLD:
        shown["payload"] = decode(payload.decode())
    return declared(schema, {"run": shown})


def dismiss(conn: Connection, now: float, run_id: str) -> Row[Any]:
    """Takes a run off the dead-letter list; one that does not stand there is left alone. Raises NotFound."""
    row = conn.execute(
        update(runs).where(runs.c.id == run_id).values(dead_at=None).returning(*runs.c)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no run {run_id!r}")
    return row
