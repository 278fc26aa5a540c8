"""What a replay takes over from the run before it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from coordinator.foundation.errors import invalid_field
from coordinator.storage.tables import checkpoints, waits


@dataclass(frozen=True)
class Copied:
    """The checkpoints that a replay takes over: those of `run` up to `position`."""

    run: str
    position: int


def copy(conn: Connection, copied: Copied, run_id: str) -> None:
    """Gives the new run `run_id` what is copied: the values and the waits that are over."""
    names = ["key", "position", "value", "value_blob", "size", "attempt_id", "attempt", "begun_at", "created_at"]
    # the attempt is the one that made the value, in the earlier run: it is where the value came from
    source = select(*[checkpoints.c[name] for name in names]).where(
        checkpoints.c.run_id == copied.run, checkpoints.c.position <= copied.position
    )
    rows = [{**row._mapping, "run_id": run_id} for row in conn.execute(source)]
    if rows:
        conn.execute(insert(checkpoints), rows)
    over = select(waits).where(
        waits.c.run_id == copied.run,
        waits.c.position <= copied.position,
        waits.c.status.in_(("done", "timed_out")),
    )
    # a token is the earlier run's: only what became of it comes along
    new = {"run_id": run_id, "token_hash": None}
    rows = [{**row._mapping, **new} for row in conn.execute(over)]
    if rows:
        conn.execute(insert(waits), rows)


def position(conn: Connection, run_id: str, key: str) -> int:
    """Where a checkpoint or a wait that is over stands in its run. Raises Invalid where there is none."""
    checkpoint = select(checkpoints.c.position).where(checkpoints.c.run_id == run_id, checkpoints.c.key == key)
    found: int | None = conn.scalar(checkpoint)
    if found is not None:
        return found
    wait = select(waits).where(waits.c.run_id == run_id, waits.c.key == key)
    row = conn.execute(wait).one_or_none()
    if row is None:
        raise invalid_field("from_checkpoint", f"the run {run_id} has no checkpoint and no wait {key!r}")
    if row.status not in ("done", "timed_out"):
        raise invalid_field(
            "from_checkpoint", f"the wait {key!r} of the run {run_id} is not over: it is {row.status}"
        )
    return int(row.position)
