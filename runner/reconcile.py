"""A runner that starts again: what a former life left is taken over, or removed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog
from samovar import wire

from coordinator.wire import Assignment, Lost, Register
from runner.attempt import Attempt, Host
from runner.container import Container
from runner.errors import CoordinatorAway, Rejected, SidecarAway
from runner.records import Record
from runner.settings import host_cpus, host_memory
from runner.spec import UID, ContainerKey

log = structlog.get_logger()

_RETRY = 0.3

Adopted = tuple[Attempt, Container, Record]


async def reconcile(host: Host, runner: str) -> list[Adopted]:
    """The attempts that go on, each in its container.

    Containers that carry this runner's label and run nothing that is still wanted are removed; containers
    without its label are never touched. Attempts whose container is gone are given back at once.
    """
    wanted = {a.attempt: a for a in await _live_attempts(host)}
    adopted: list[Adopted] = []
    keep: set[str] = set()
    for state in await asyncio.to_thread(host.engine.list, runner):
        record = host.records.load(state.name)
        assignment = wanted.get(record.attempt) if record else None
        if assignment is not None and record is not None and state.running:
            host.pool.users.adopt(state.name, _uid(state.labels))
            container = await _adopt(host, state.name, assignment)
            if container is not None:
                del wanted[assignment.attempt]
                keep.add(state.name)
                adopted.append((Attempt(host, assignment), container, record))
                continue
            host.pool.users.give_back(state.name)
        log.info("removing a container of a former life", container=state.name)
        await asyncio.to_thread(host.engine.remove, state.name)
        await _forget(host, state.name)
    host.records.forget_all_but(keep)
    host.pool.users.forget_all_but(keep)
    for assignment in wanted.values():
        message = "the runner was started again and found no container for the attempt"
        await _give_back(host, assignment, message)
    return adopted


async def register_again(host: Host, names: Collection[str] | None = None) -> None:
    """Tells a sidecar of every container, and of what runs in them, or of those named.

    One that has started anew knows of none; one that knows them says again where they stand.
    """
    for container in host.pool:
        if container.state == "leaving" or (names is not None and container.name not in names):
            continue
        body = Register(
            assignment=container.assignment,
            undelivered=container.state == "starting",
            start=container.start,
            placing=container.placing,
            uid=host.pool.users.of(container.name),
            egress=host.pool.egress(container),
        )
        await host.sidecar.register(container.name, body)


async def _live_attempts(host: Host) -> list[Assignment]:
    while True:
        try:
            return (await host.coordinator.adopt()).assignments
        except CoordinatorAway as error:
            log.warning("waiting for the coordinator", problem=str(error))
            await asyncio.sleep(_RETRY)


async def _adopt(host: Host, name: str, assignment: Assignment) -> Container | None:
    try:
        key = ContainerKey.of(assignment, host.policy, host_memory(), host_cpus())
    except Rejected as error:
        log.warning("the policy no longer allows a running task", attempt=assignment.attempt, problem=str(error))
        return None
    # in the pool first, so that no event of it is missed
    container = host.pool.adopt(name, key, assignment)
    body = Register(assignment=assignment, uid=host.pool.users.of(name), egress=host.pool.egress(container))
    while True:
        try:
            await host.sidecar.register(name, body)
            return container
        except SidecarAway as error:
            log.warning("waiting for the sidecar", problem=str(error))
            await asyncio.sleep(_RETRY)


def _uid(labels: dict[str, str]) -> int:
    """A container of a version that had one user for all says nothing of it."""
    text = labels.get(UID, "")
    return int(text) if text.isdigit() else wire.TASK_UID


async def _forget(host: Host, name: str) -> None:
    try:
        await host.sidecar.forget(name)
    except SidecarAway:
        log.debug("the sidecar is away; it will not be told of this container again", container=name)


async def _give_back(host: Host, assignment: Assignment, message: str) -> None:
    try:
        await host.coordinator.lost(
            assignment.attempt, Lost(token=assignment.token, reason="lost", message=message)
        )
    except CoordinatorAway as error:
        log.warning("could not give an attempt back; its lease will run out", problem=str(error))
