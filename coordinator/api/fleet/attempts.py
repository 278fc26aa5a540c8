"""What is written for an attempt: by its sidecar with the attempt's secret, and `lost` by its runner."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import structlog
from pydantic import BaseModel
from sqlalchemy import Connection

from coordinator.access import keys
from coordinator.access.keys import AttemptSecrets
from coordinator.access.vault import BadMasterKey
from coordinator.api.direct import Handle, Raw, Route, Way
from coordinator.api.fleet import answers
from coordinator.api.fleet.together import MOST_BYTES, Joint, Prepare, Write, together
from coordinator.attempts import attempts, checkpoints, egress, secrets
from coordinator.attempts.attempts import Ended
from coordinator.attempts.checkpoints import Kept
from coordinator.context import Coordinator
from coordinator.deployments import rebuilds
from coordinator.foundation.errors import Conflict
from coordinator.foundation.limits import INLINE
from coordinator.maintenance.sweep import topics_of
from coordinator.runs import children, logs
from coordinator.signals import waking
from coordinator.storage.values import Encoded, Stored, encode, encode_small, inline
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


async def _done(core: Coordinator, run: str) -> bytes:
    core.waking.notify(waking.step(run))
    return _DONE


def _start(core: Coordinator, attempt: str, body: Started, waited: float) -> Write:
    return Write(attempts.start, (attempt, body, waited), _done)


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


def _checkpoint_get(core: Coordinator, attempt: str, body: CheckpointGet, waited: float) -> Write:
    return Write(checkpoints.get, (attempt, body.token, body.key), _checkpoint_value, _size)


def _size(stored: Stored | None) -> int:
    return 0 if stored is None else stored.size


async def _checkpoint_value(core: Coordinator, stored: Stored | None) -> CheckpointValue:
    if stored is None:
        return CheckpointValue(found=False)
    return CheckpointValue(found=True, value=await core.values.get(stored))


async def checkpoint_get(core: Coordinator, attempt: str, body: CheckpointGet) -> CheckpointValue:
    return await _checkpoint_value(core, await core.database.read(checkpoints.get, attempt, body.token, body.key))


def _checkpoint(core: Coordinator, attempt: str, body: CheckpointPut, waited: float) -> Write | None:
    encoded = encode(body.value, f"checkpoint {body.key!r}")
    if encoded.size > INLINE:  # numbers may be longer as we write them
        return None
    return _put(attempt, body, encoded, inline(encoded), waited)


def _put(attempt: str, body: CheckpointPut, encoded: Encoded, given: Stored, waited: float = 0.0) -> Write:
    took = None if body.took_ms is None else body.took_ms / 1000 + waited

    async def answer(core: Coordinator, kept: Kept) -> bytes | CheckpointStored:
        if kept.stored:
            return f'{{"stored":true,"value":{encoded.text}}}'.encode()
        return CheckpointStored(stored=False, value=await core.values.get(kept.value))

    known = (attempt, body.token, body.key, given, took)
    return Write(checkpoints.put, known, answer, lambda kept: kept.value.size)


async def checkpoint(core: Coordinator, attempt: str, body: CheckpointPut) -> bytes | BaseModel:
    """Answered when the value is durable; the first writer of a key wins."""
    encoded = encode(body.value, f"checkpoint {body.key!r}")
    return await _written(core, _put(attempt, body, encoded, await core.values.put(encoded)))


def _wait(core: Coordinator, attempt: str, body: WaitCall, waited: float) -> Write | None:
    if body.kind in children.KINDS:
        return None
    if body.kind == "event":
        return Write(_timed, (event_waits.call, attempt, body), _waited)
    return Write(_timed, (_call, attempt, body, core.secrets), _waited)


def _call(conn: Connection, now: float, attempt: str, body: WaitCall, made: AttemptSecrets) -> Called:
    hashed = None
    if body.kind == "token":
        hashed = keys.hash_key(made.token_id(attempts.run_of(conn, now, attempt), body.key))
    return waits.call(conn, now, attempt, body, hashed)


def _timed(conn: Connection, now: float, call: Callable[..., Called], *arguments: Any) -> tuple[Called, float]:
    return call(conn, now, *arguments), now


async def _waited(core: Coordinator, found: tuple[Called, float]) -> WaitAnswer:
    called, now = found
    core.waking.notify(*called.topics)
    return await answers.of(core, now, called.row)


async def wait(core: Coordinator, attempt: str, body: WaitCall) -> bytes | BaseModel:
    """Answered when the wait, and the runs that it is for, are durable; or with what has become of it."""
    write = _wait(core, attempt, body, 0.0)
    if write is None:
        known = (attempt, body)
        planned = await core.database.read(children.plan, *known, core.payloads)
        payloads = [await core.values.put(payload) for payload in planned.payloads] if planned else []
        write = Write(_timed, (children.call, *known, planned, payloads), _waited)
    return await _written(core, write)


async def wait_result(core: Coordinator, attempt: str, body: WaitResultGet) -> ChildResult:
    row = await core.database.read(children.stored, attempt, body.token, body.key)
    return await answers.child(core, row, body.index)


def _logs(core: Coordinator, attempt: str, body: AttemptLogs, waited: float) -> Write:
    return Write(logs.append, (attempt, body.token, body.lines), _done)


def _report(core: Coordinator, attempt: str, body: Report, waited: float) -> Write:
    return Write(attempts.report, (attempt, body), _done)


async def _quietly(core: Coordinator, nothing: None) -> bytes:
    return _DONE


def _egress(core: Coordinator, attempt: str, body: AttemptEgress, waited: float) -> Write:
    return Write(egress.store, (attempt, body), _quietly)


def _extend(core: Coordinator, attempt: str, body: Extend, waited: float) -> Write:
    return Write(attempts.extend, (attempt, body.token, body.seconds), _quietly)


def _finish(core: Coordinator, attempt: str, body: Finish, waited: float) -> Write | None:
    result = Stored()
    if body.outcome == "completed":
        encoded = encode(body.result, "result")
        if encoded.size > INLINE:
            return None
        result = inline(encoded)
    return _end(attempt, body, result, waited)


def _end(attempt: str, body: Finish, result: Stored, waited: float = 0.0) -> Write:
    taken = time.monotonic()
    return Write(attempts.finish, (attempt, body, result, random.random, waited, taken), _ended)


async def _ended(core: Coordinator, ended: Ended) -> bytes:
    if not ended.repeated:
        core.waking.notify(*topics_of(ended))
    return encode_small({"run": ended.run, "status": ended.status}).encode()


async def finish(core: Coordinator, attempt: str, body: Finish) -> bytes | BaseModel:
    """The end of an attempt, in one transaction. The same one sent again is answered as the first."""
    result = Stored()
    if body.outcome == "completed":
        result = await core.values.put(encode(body.result, "result"))
    return await _written(core, _end(attempt, body, result))


async def lost(core: Coordinator, attempt: str, body: Lost) -> bytes:
    if body.missing_image is not None:
        ended = await core.database.write(rebuilds.lost, attempt, body)
        core.waking.notify(waking.BUILDS)
    else:
        ended = await core.database.write(attempts.lost, attempt, body)
    core.waking.notify(*topics_of(ended))
    return encode_small({"run": ended.run, "status": ended.status}).encode()


async def _written(core: Coordinator, write: Write) -> bytes | BaseModel:
    return await write.answer(core, await core.database.write(write.function, *write.arguments))


def _single(prepare: Prepare) -> Handle:
    """The handler of a call that carries one write."""

    async def handle(core: Coordinator, attempt: str, body: Any) -> bytes | BaseModel:
        write = prepare(core, attempt, body, 0.0)
        assert write is not None  # only waits may be none
        return await _written(core, write)

    return handle


#: What may go together with others, as one write each.
JOINT: dict[str, Joint] = {
    "start": Joint(Started, _start),
    "checkpoint-get": Joint(CheckpointGet, _checkpoint_get),
    "checkpoint": Joint(CheckpointPut, _checkpoint),
    "wait": Joint(WaitCall, _wait),
    "logs": Joint(AttemptLogs, _logs),
    "report": Joint(Report, _report),
    "egress": Joint(AttemptEgress, _egress),
    "extend": Joint(Extend, _extend),
    "finish": Joint(Finish, _finish),
}

_WRITES: dict[str, Route | Raw] = {
    **{action: Route(joint.model, _single(joint.prepare)) for action, joint in JOINT.items()},
    "secrets": Route(SecretsGet, give_secrets),
    "checkpoint-get": Route(CheckpointGet, checkpoint_get),
    "checkpoint": Route(CheckpointPut, checkpoint),
    "wait": Route(WaitCall, wait),
    "wait-result": Route(WaitResultGet, wait_result),
    "finish": Route(Finish, finish),
    "lost": Route(Lost, lost),
    "batch": Raw(together(JOINT), MOST_BYTES),
}

WAY = Way(f"{FLEET}/attempts/", _WRITES)
