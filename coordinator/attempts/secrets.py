"""The secrets that the process of an attempt is given: those that its task names, opened for it alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, select

from coordinator.access import leases, secrets
from coordinator.access.vault import Sealed, Vault
from coordinator.foundation.errors import TooLarge
from coordinator.foundation.limits import MAX_RUN_SECRETS
from coordinator.storage.tables import runs, tasks
from coordinator.tasks.index import stored_options

_OF_RUN: Select[Any] = (
    select(runs.c.project, tasks.c.options)
    .join(tasks, (tasks.c.deployment_id == runs.c.deployment_id) & (tasks.c.task == runs.c.task))
    .where(runs.c.id == bindparam("run"))
)


class Named(NamedTuple):
    """A secret as it is stored: whose it is, its name, and what there is of it."""

    project: str
    name: str
    sealed: Sealed | None


def find(conn: Connection, now: float, attempt_id: str, token: int) -> list[Named]:
    """What the task of the attempt names, sealed; what is not set is there without. Raises StaleAttempt."""
    held = leases.require(conn, now, attempt_id, token)
    run = conn.execute(_OF_RUN, {"run": held.run_id}).one()
    found: list[Named] = []
    for name in stored_options(run.options).given_secrets:
        project, sealed = secrets.find(conn, run.project, name) or (run.project, None)
        found.append(Named(project, name, sealed))
    return found


def opened(vault: Vault, named: list[Named]) -> tuple[dict[str, str], list[str]]:
    """The values by name, and the names of those that are not set. Raises BadMasterKey, TooLarge."""
    values = {one.name: vault.open(one.project, one.name, one.sealed) for one in named if one.sealed is not None}
    total = sum(len(value.encode()) for value in values.values())
    if total > MAX_RUN_SECRETS:
        raise TooLarge(f"secrets: those of the task have {total} bytes together, the limit is {MAX_RUN_SECRETS}")
    return values, [one.name for one in named if one.sealed is None]
