"""A claimed run as the runner gets it: with its values, its limits, and the right to write for it."""

from __future__ import annotations

from coordinator.api.fleet import answers
from coordinator.attempts.claims import Claimed
from coordinator.context import Coordinator
from coordinator.deployments.ahead import Ahead
from coordinator.foundation.limits import LEASE
from coordinator.storage.values import decode
from coordinator.tasks.index import TaskOptions, stored_options
from coordinator.wire import Assignment, StoredValue, StoredWait, TaskLimits, Wanted


async def assignment(core: Coordinator, claimed: Claimed) -> Assignment:
    """The assignment; large values are brought in here, outside of any transaction."""
    options = stored_options(claimed.options)
    run = claimed.run
    core.owners.note(claimed.attempt, run.project)
    return Assignment(
        attempt=claimed.attempt,
        token=claimed.token,
        secret=core.secrets.make(claimed.attempt, claimed.token),
        run=run.id,
        number=claimed.number,
        project=run.project,
        task=run.task,
        version=run.version,
        deployment=run.deployment_id,
        image=claimed.image,
        payload=await core.values.get(claimed.payload),
        checkpoints=[
            StoredValue(key=key, value=await core.values.get(stored)) for key, stored in claimed.checkpoints
        ],
        checkpoints_complete=claimed.checkpoints_complete,
        waits=[
            StoredWait(
                key=row.key,
                kind=row.kind,
                name=row.name,
                answer=await answers.of(core, 0.0, row) if row.key in claimed.waits_sent else None,
            )
            for row in claimed.waits
        ],
        limits=_limits(options, claimed.memory).model_copy(
            update={"extended": claimed.extended, "total_left": claimed.total_left}
        ),
        tags=decode(run.tags),
        secrets=options.given_secrets,
        trace_id=run.trace_id,
        lease=LEASE,
    )


def wanted(ahead: Ahead) -> Wanted | None:
    """A container to have ready, as the runner is told of it; None where none may be kept."""
    options = stored_options(ahead.row.options)
    if not options.warm or options.trust == "untrusted":
        return None
    return Wanted(
        id=ahead.id,
        why="deploy" if ahead.why == "deploy" else "tick",
        project=ahead.row.project,
        task=ahead.row.task,
        image=ahead.row.image,
        limits=_limits(options, options.memory),
        within=ahead.within,
        here=ahead.here,
    )


def _limits(options: TaskOptions, memory: int) -> TaskLimits:
    return TaskLimits(
        memory=memory,
        cpu=options.cpu,
        timeout=options.timeout,
        warm=options.warm,
        network=options.network,
        mounts=options.mounts,
        trust=options.trust,
        isolation=options.given_isolation,
        start=options.start,
        pids=options.pids,
        scratch=options.scratch,
    )
