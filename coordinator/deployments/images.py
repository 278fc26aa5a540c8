"""Which images a runner may remove: those that no version needs which could still start something."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select, update

from coordinator.deployments.deployments import kept
from coordinator.deployments.findings import UNDER_WAY
from coordinator.storage.tables import deployments, projects, runs, tasks


def removable(conn: Connection, now: float, held: Sequence[str], keep: int) -> list[str]:
    """Those of the images that `held` names, all built by the runner that asks, which nothing needs.

    Needed are the images of current versions, of the `keep` newest of each project, and of those with runs under
    way. From now on no new run gets the others. An image of which no version is known, because its index was
    refused or its version is forgotten, is needed by nobody.
    """
    if not held:
        return []
    with_image = deployments.c.image.in_(held)
    # no promotion meanwhile: what is current stays so until this is written
    involved = select(deployments.c.project).where(with_image)
    query = select(projects.c.name).where(projects.c.name.in_(involved)).order_by(projects.c.name)
    conn.execute(query.with_for_update()).all()
    current = select(projects.c.current_deployment).where(projects.c.current_deployment.is_not(None))
    under_way = (
        select(tasks.c.task)
        .join(
            runs,
            (runs.c.deployment_id == tasks.c.deployment_id)
            & (runs.c.task == tasks.c.task)
            & runs.c.status.in_(UNDER_WAY),
        )
        .where(tasks.c.deployment_id == deployments.c.id)
        .exists()
    )
    needed = set(
        conn.scalars(
            select(deployments.c.image).where(
                with_image,
                or_(deployments.c.id.in_(current), deployments.c.id.in_(kept(keep)), under_way),
            )
        )
    )
    gone = [image for image in held if image not in needed]
    conn.execute(
        update(deployments)
        .where(deployments.c.image.in_(gone), deployments.c.image_removed_at.is_(None))
        .values(image_removed_at=now)
    )
    return gone
