"""A claimed run as the runner gets it: with its values, its limits, and the right to write for it."""

from __future__ import annotations

from coordinator.api.fleet import answers
from coordinator.attempts.claims import Claimed
from coordinator.context import Coordinator
from coordinator.foundation.limits import LEASE
from coordinator.storage.values import decode
from coordinator.tasks.index import stored_options
from coordinator.wire import Assignment, StoredValue, StoredWait, TaskLimits


async def assignment(core: Coordinator, claimed: Claimed) -> Assignment:
    """The assignment; large values are brought in here, outside of any transaction."""
    options = stored_options(claimed.options)
    run = claimed.run
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
        limits=TaskLimits(
            memory=claimed.memory,
            cpu=options.cpu,
            timeout=options.timeout,
            extended=claimed.extended,
            total_left=claimed.total_left,
            warm=options.warm,
            network=options.network,
            mounts=options.mounts,
            trust=options.trust,
            isolation=options.given_isolation,
            start=options.start,
            pids=options.pids,
            scratch=options.scratch,
        ),
        tags=decode(run.tags),
        secrets=options.given_secrets,
        trace_id=run.trace_id,
        lease=LEASE,
    )
