"""What is written for an attempt: by its sidecar with the attempt's secret, and `lost` by its runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Connection

from coordinator.access import keys
from coordinator.access.vault import BadMasterKey
from coordinator.api.direct import Way, Write
from coordinator.api.fleet import answers
from coordinator.attempts import attempts, checkpoints, egress, secrets
from coordinator.context import Coordinator
from coordinator.deployments import rebuilds
from coordinator.foundation.errors import Conflict
from coordinator.maintenance.sweep import topics_of
from coordinator.runs import children, logs
from coordinator.signals import waking
from coordinator.storage.values import Stored, encode, encode_small
from coordinator.waits import event_waits, waits
from coordinator.waits.waits import Called
from coordinator.wire import (
    FLEET,
    AttemptEgress,
    AttemptLogs,
    CheckpointGet,
    CheckpointPut,
    CheckpointStored,
    CheckpointValue,
    ChildResult,
    Extend,
    Finish,
    Lost,
    Report,
    SecretsGet,
    SecretValues,
    Started,
    WaitAnswer,
    WaitCall,
    WaitResultGet,
)

log = structlog.get_logger()

_DONE = b"{}"


async def start(core: Coordinator, attempt: str, body: Started) -> bytes:
    run = await core.database.write(attempts.start, attempt, body)
    core.waking.notify(waking.run(run))
    return _DONE


async def give_secrets(core: Coordinator, attempt: str, body: SecretsGet) -> SecretValues:
    """For the attempt's own process; the sidecar keeps them out of what it says."""
    named = await core.database.read(secrets.find, attempt, body.token)
    try:
        values, missing = await asyncio.to_thread(secrets.opened, core.vault, named)
    except BadMasterKey as error:
        # nothing that asking again would mend, as after the usual 503
        log.error("the secrets of an attempt cannot be opened", attempt=attempt, problem=error.message)
        message = "the secrets cannot be opened: the coordinator's log says why"
        raise Conflict(message, code="master_key") from None
    return SecretValues(values=values, missing=missing)


async def checkpoint_get(core: Coordinator, attempt: str, body: CheckpointGet) -> CheckpointValue:
    stored = await core.database.read(checkpoints.get, attempt, body.token, body.key)
    if stored is None:
        return CheckpointValue(found=False)
    return CheckpointValue(found=True, value=await core.values.get(stored))


async def checkpoint(core: Coordinator, attempt: str, body: CheckpointPut) -> bytes | CheckpointStored:
    """Answered when the value is durable; the first writer of a key wins."""
    encoded = encode(body.value, f"checkpoint {body.key!r}")
    given = await core.values.put(encoded)
    kept = await core.database.write(checkpoints.put, attempt, body.token, body.key, given)
    if kept.stored:
        return f'{{"stored":true,"value":{encoded.text}}}'.encode()
    return CheckpointStored(stored=False, value=await core.values.get(kept.value))


async def wait(core: Coordinator, attempt: str, body: WaitCall) -> WaitAnswer:
    """Answered when the wait, and the runs that it is for, are durable; or with what has become of it."""
    known = (attempt, body)
    if body.kind in children.KINDS:
        planned = await core.database.read(children.plan, *known, core.payloads)
        payloads = [await core.values.put(payload) for payload in planned.payloads] if planned else []
        called, now = await core.database.write(_timed, children.call, *known, planned, payloads)
    elif body.kind == "event":
        called, now = await core.database.write(_timed, event_waits.call, *known)
    else:
        hashed = None
        if body.kind == "token":
            run = await core.database.read(attempts.run_of, attempt)
            hashed = keys.hash_key(core.secrets.token_id(run, body.key))
        called, now = await core.database.write(_timed, waits.call, *known, hashed)
    core.waking.notify(*called.topics)
    return await answers.of(core, now, called.row)


def _timed(conn: Connection, now: float, call: Callable[..., Called], *arguments: Any) -> tuple[Called, float]:
    return call(conn, now, *arguments), now


async def wait_result(core: Coordinator, attempt: str, body: WaitResultGet) -> ChildResult:
    row = await core.database.read(children.stored, attempt, body.token, body.key)
    return await answers.child(core, row, body.index)


async def add_logs(core: Coordinator, attempt: str, body: AttemptLogs) -> bytes:
    run = await core.database.write(logs.append, attempt, body.token, body.lines)
    core.waking.notify(waking.run(run))
    return _DONE


async def report(core: Coordinator, attempt: str, body: Report) -> bytes:
    run = await core.database.write(attempts.report, attempt, body)
    core.waking.notify(waking.run(run))
    return _DONE


async def add_egress(core: Coordinator, attempt: str, body: AttemptEgress) -> bytes:
    await core.database.write(egress.store, attempt, body)
    return _DONE


async def extend(core: Coordinator, attempt: str, body: Extend) -> bytes:
    await core.database.write(attempts.extend, attempt, body.token, body.seconds)
    return _DONE


async def finish(core: Coordinator, attempt: str, body: Finish) -> bytes:
    """The end of an attempt, in one transaction. The same one sent again is answered as the first."""
    result = Stored()
    if body.outcome == "completed":
        result = await core.values.put(encode(body.result, "result"))
    ended = await core.database.write(attempts.finish, attempt, body, result)
    if not ended.repeated:
        core.waking.notify(*topics_of(ended))
    return encode_small({"run": ended.run, "status": ended.status}).encode()


async def lost(core: Coordinator, attempt: str, body: Lost) -> bytes:
    if body.missing_image is not None:
        ended = await core.database.write(rebuilds.lost, attempt, body)
        core.waking.notify(waking.BUILDS)
    else:
        ended = await core.database.write(attempts.lost, attempt, body)
    core.waking.notify(*topics_of(ended))
    return encode_small({"run": ended.run, "status": ended.status}).encode()


_WRITES = {
    "start": Write(Started, start),
    "secrets": Write(SecretsGet, give_secrets),
    "checkpoint-get": Write(CheckpointGet, checkpoint_get),
    "checkpoint": Write(CheckpointPut, checkpoint),
    "wait": Write(WaitCall, wait),
    "wait-result": Write(WaitResultGet, wait_result),
    "logs": Write(AttemptLogs, add_logs),
    "report": Write(Report, report),
    "egress": Write(AttemptEgress, add_egress),
    "extend": Write(Extend, extend),
    "finish": Write(Finish, finish),
    "lost": Write(Lost, lost),
}

WAY = Way(f"{FLEET}/attempts/", _WRITES)
