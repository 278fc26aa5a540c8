"""Webhooks: which tasks the deployments offer to the outside, and with what secret a delivery is checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select

from coordinator.access import secrets
from coordinator.access.vault import Sealed
from coordinator.foundation.errors import NotFound
from coordinator.sources import challenges
from coordinator.storage.tables import deployments, projects, webhooks
from coordinator.storage.values import encode_small
from coordinator.tasks.index import ChallengeOptions, TaskIndex, TaskOptions


class Webhook(NamedTuple):
    """`secret` is its name (None: unsigned), `sealed` whose it is and what it is (None: not set).

    `challenge`: how its sender is answered that first asks, and `others` the secrets that this takes, by name.
    `current`: the project's current deployment has it, and not only an earlier one. `at`: when this was read.
    """

    project: str
    path: str
    task: str
    scheme: str | None
    secret: str | None
    sealed: tuple[str, Sealed] | None
    challenge: ChallengeOptions | None
    others: dict[str, tuple[str, Sealed] | None]
    current: bool
    at: float


def offer(conn: Connection, deployment: str, project: str, index: TaskIndex) -> list[str]:
    """Keeps the webhooks of a deployment, for when it is the current one; what whoever deploys has to know."""
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    for task in index.tasks:
        found = TaskOptions.model_validate(task.options).webhook
        if found is None:
            continue
        challenge = None if found.challenge is None else encode_small(found.challenge.model_dump())
        row = {**found.model_dump(), "challenge": challenge}
        rows.append({"deployment_id": deployment, "task": task.id, **row})
        for name in [] if found.challenge is None else challenges.names(found.challenge):
            if name != found.secret and secrets.find(conn, project, name) is None:
                warnings.append(
                    f"warning: the webhook {found.path!r} of {task.id} answers no challenge until its secret is "
                    f"set: samovar secrets set {name} --project {project}"
                )
        if found.secret is None:
            warnings.append(
                f"warning: the webhook {found.path!r} of {task.id} is unsigned: whoever knows its URL can make runs"
            )
        elif secrets.find(conn, project, found.secret) is None:
            warnings.append(
                f"warning: the webhook {found.path!r} of {task.id} refuses everything until its secret is set: "
                f"samovar secrets set {found.secret} --project {project}"
            )
    if rows:
        conn.execute(insert(webhooks), rows)
    return warnings


def find(conn: Connection, now: float, project: str, path: str) -> Webhook:
    """The webhook at this address: of the current deployment, else of the newest that had one there.

    An unsigned one is there only while it is current. Raises NotFound (`unknown_webhook`).
    """
    row = conn.execute(
        select(webhooks)
        .join_from(webhooks, projects, projects.c.current_deployment == webhooks.c.deployment_id)
        .where(projects.c.name == project, webhooks.c.path == path)
    ).one_or_none()
    current = row is not None
    if row is None:
        row = conn.execute(
            select(webhooks)
            .join_from(webhooks, deployments, deployments.c.id == webhooks.c.deployment_id)
            .where(deployments.c.project == project, webhooks.c.path == path, webhooks.c.secret.is_not(None))
            .order_by(deployments.c.day.desc(), deployments.c.number.desc())
            .limit(1)
        ).one_or_none()
    if row is None:
        raise NotFound(f"there is no webhook {path!r} of the project {project!r}", code="unknown_webhook")
    sealed = None if row.secret is None else secrets.find(conn, project, row.secret)
    challenge = None if row.challenge is None else ChallengeOptions.model_validate_json(row.challenge)
    others = {} if challenge is None else {n: secrets.find(conn, project, n) for n in challenges.names(challenge)}
    return Webhook(project, path, row.task, row.scheme, row.secret, sealed, challenge, others, current, now)


def listing(
    conn: Connection, now: float, project: str | None, cursor: str | None, limit: int
) -> tuple[list[tuple[Row[Any], bool]], str | None]:
    """The webhooks of current deployments, each with whether its secret is set, and the cursor of the next page."""
    query = (
        select(projects.c.name.label("project"), webhooks)
        .join_from(webhooks, projects, projects.c.current_deployment == webhooks.c.deployment_id)
        .order_by(projects.c.name, webhooks.c.path)
        .limit(limit + 1)
    )
    if project is not None:
        query = query.where(projects.c.name == project)
    if cursor is not None:
        of, _, path = cursor.partition("/")
        query = query.where((projects.c.name > of) | ((projects.c.name == of) & (webhooks.c.path > path)))
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    found = [
        (row, row.secret is not None and secrets.find(conn, row.project, row.secret) is not None) for row in rows
    ]
    return found, f"{rows[-1].project}/{rows[-1].path}" if more else None
