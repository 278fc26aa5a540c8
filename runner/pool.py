"""The pool: every container of this runner, one ledger of their memory, and the warm ones among them.

A container counts from before it is created until the engine has removed it, so that busy, idle, starting
and leaving ones together never take more than the host gives. A run takes an idle container of its key;
else one is started, as soon as its turn (see starts.py) and the memory are there, idle ones leaving for it. A run
that still waits for its start takes a container that comes free meanwhile, and no start begins while one is about
to come free.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import structlog

from coordinator.wire import Assignment, Egress, PoolEntry, Register, Start
from runner.container import Container
from runner.engine import Engine
from runner.errors import EngineError, SidecarAway
from runner.forecast import Forecast
from runner.reach import Network, egress
from runner.settings import Settings
from runner.sidecar_client import SidecarClient
from runner.spec import ContainerKey, ContainerSpec
from runner.starts import Starts, Waiter
from runner.successors import Successors
from runner.users import OneUser, Users
from runner.warm import WarmSet

log = structlog.get_logger()

#: A warm container may grow by this much before it is replaced: a fifth, but not for less than 8 MiB.
_GROWTH = 1.2
_GROWTH_BYTES = 8 * 1024**2
#: How long a run waits for a container that is about to come free, in seconds: less than a cold start takes.
_RETURN = 0.5
#: How long a container may take to clean up after a run, in seconds: it gives up by itself after five.
_RELEASE = 8.0
_REMOVAL_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Pool:
    def __init__(
        self,
        runner: str,
        settings: Settings,
        engine: Engine,
        sidecar: SidecarClient,
        clock: Callable[[], float] = time.monotonic,
        users: Users | None = None,
        network: Network | None = None,
    ) -> None:
        """`users`: without, all containers are the same user. `network`: the policy's, by default that of none."""
        self._runner = runner
        self._settings = settings
        self._engine = engine
        self._sidecar = sidecar
        self._clock = clock
        self._containers: dict[str, Container] = {}
        self._warm = WarmSet(
            keep_alive=settings.keep_alive,
            most=settings.max_warm,
            most_per_task=settings.max_warm_per_task,
            rule=settings.pool_rule,
        )
        self._forecast = Forecast()
        self._starts = Starts(settings.starts, clock)
        self._successors = Successors(
            settings,
            clock,
            possible=self._may_prepare,
            begin=self._prepare,
            stand_ready=self._stand_ready,
            destroy=self.destroy,
            spawn=self._spawn,
        )
        #: Runs that wait for a container to come free, or for room to start one.
        self._waiting = 0
        #: Of them, by key, those that wait for a container about to come free.
        self._promised: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self.users = users or OneUser()
        self._network = network or Network()
        self._background: set[asyncio.Task[None]] = set()
        #: Bytes set aside for builds. New starts keep clear of them; what runs already is left alone.
        self.reserved = 0

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._containers.values()))

    def get(self, name: str) -> Container | None:
        return self._containers.get(name)

    @property
    def used(self) -> int:
        """Bytes that all containers together may take, and builds."""
        return self.reserved + sum(c.key.memory for c in self._containers.values())

    def take(self, assignment: Assignment, key: ContainerKey) -> Container | None:
        """An idle container of `key`, bound to `assignment`; None where `acquire` has to see to it.

        At once, and so the short way of a warm start; but never past a run that waits in `acquire`.
        """
        return None if self._waiting else self._idle(assignment, key)

    async def acquire(self, assignment: Assignment, key: ContainerKey, *, fresh: bool = False) -> Container:
        """A container of `key` to run `assignment` in, bound to it. `fresh`: never a warm one.

        A cold one is started with the assignment waiting for it at the sidecar. Raises EngineError (and
        ImageMissing) or SidecarAway; then nothing is left behind.
        """
        until: float | None = None
        waiter: Waiter | None = None
        async with self._changed:
            try:
                while True:
                    container = None if fresh else self._idle(assignment, key)
                    if container is not None:
                        return container
                    if not fresh:
                        until = until or time.monotonic() + self._patience(key.digest)
                        if await self._one_returns(key.digest, until - time.monotonic()):
                            continue
                    waiter = waiter or self._starts.wait(key.project, key.memory)
                    if self._starts.is_next(waiter, self._fits) and self._make_room(key.memory):
                        break
                    await self._change(self._starts.pause(key.project) or None)
            finally:
                if waiter is not None:
                    self._starts.leave(waiter)
                    self._changed.notify_all()
            container = self._begin(key)
        self._bind(container, assignment, "cold")
        starting = asyncio.ensure_future(self._start(container, assignment))
        self._spawn(self._started(container, starting))
        try:
            # whoever waits may be cancelled; the engine's call can't be, and what it makes is removed after it
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.destroy(container)
            raise
        return container

    def adopt(self, name: str, key: ContainerKey, assignment: Assignment) -> Container:
        """Takes a running container, found at start, into the ledger; it is not used again after its run."""
        container = Container(name, key, self._clock())
        container.begun.set()
        self._containers[name] = container
        return self._bind(container, assignment, "cold")

    def hold(self, container: Container) -> None:
        """The run in `container` has ended well, and what it has left is being cleaned up.

        It keeps its memory, and comes back when it says that it is clean. Whatever becomes of it, the run is over.
        """
        if container.state == "leaving" or container.assignment is None:
            return
        container.held, container.returning = container.assignment.attempt, True
        self._forecast.ran(container.task, self._clock() - container.serving)
        container.assignment = None
        self._spawn(self._released(container))

    async def _released(self, container: Container) -> None:
        attempt, until = container.held, time.monotonic() + _RELEASE
        while container.state != "leaving" and (left := until - time.monotonic()) > 0:
            account = container.account
            if account is not None and account.attempt == attempt:
                await self._come_back(container, clean=account.clean, memory=account.memory)
                return
            container.released.clear()
            await self._wait_for(container.released, left)
        if container.state != "leaving":
            log.warning("a container did not clean up after its run", container=container.name)
            self.destroy(container)

    async def release(self, container: Container, *, clean: bool, memory: int | None) -> None:
        """The run in `container` has ended: keeps it warm where the rules allow it, else destroys it."""
        if clean:
            self._forecast.ran(container.task, self._clock() - container.serving)
        await self._come_back(container, clean=clean, memory=memory)

    async def _come_back(self, container: Container, *, clean: bool, memory: int | None) -> None:
        task = container.task
        container.assignment = None
        container.returning = False
        container.held, container.account = "", None
        if not (clean and self._reusable(container, memory)):
            self.destroy(container)
            return
        async with self._changed:
            if container.state == "leaving":
                return  # it died while others had the lock
            container.state = "idle"
            digest = container.key.digest
            cost = self._forecast.start(digest)
            size = container.key.memory
            for name in self._warm.put(container.name, digest, task, self._clock(), memory=size, cost=cost):
                self.destroy(self._containers[name])
            self._changed.notify_all()

    def egress(self, container: Container) -> Egress | None:
        """What the sidecar lets a container reach."""
        return egress(container.key.network, self._network)

    def destroy(self, container: Container) -> None:
        """Ends a container whatever it does; its memory is free when the engine has removed it."""
        if container.state == "leaving":
            return
        self._warm.remove(container.name)
        container.state = "leaving"
        container.returning = False
        container.released.set()
        container.assignment = None
        self._spawn(self._remove(container))

    async def expire(self) -> None:
        """Ends the containers that have been idle long enough, or have become too old."""
        for name in self._warm.expired(self._clock()):
            self.destroy(self._containers[name])
        for container in [self._containers[idle.name] for idle in self._warm]:
            if self._successors.served(container) and not self._successors.replace(container):
                self.destroy(container)

    async def give_back(self, memory: int) -> None:
        """Ends a reservation made by raising `reserved`."""
        async with self._changed:
            self.reserved -= memory
            self._changed.notify_all()

    async def close(self) -> None:
        """Destroys every container and waits until the engine has removed them."""
        for container in self:
            self.destroy(container)
        while self._background:
            await asyncio.wait(self._background)

    def snapshot(self) -> list[PoolEntry]:
        now = self._clock()
        return [
            PoolEntry(
                container=c.name,
                project=c.key.project,
                image=c.key.image,
                state=c.state,
                memory=c.key.memory,
                runs=c.runs,
                age=now - c.since,
                attempt=c.assignment.attempt if c.assignment else None,
                task=c.task or None,
            )
            for c in self._containers.values()
        ]

    # ------------------------------------------------------------

    def _fits(self, memory: int) -> bool:
        return self.used + memory <= self._settings.memory

    def _make_room(self, memory: int) -> bool:
        """Whether `memory` fits now; where it does not, sends idle containers away so that it will."""
        if self._fits(memory):
            return True
        for container in self:
            if container.prepared and container.state == "starting":
                self.destroy(container)  # nobody waits for it
        leaving = sum(c.key.memory for c in self._containers.values() if c.state == "leaving")
        while self.used - leaving + memory > self._settings.memory:
            name = self._warm.evict()
            if name is None:
                break
            leaving += self._containers[name].key.memory
            self.destroy(self._containers[name])
        return False

    def _patience(self, key: str) -> float:
        """Seconds that a run had better wait for a container of `key` to come free before one is started for it."""
        _, busy = self._expected(key)
        patience = self._forecast.worth_waiting(key, busy, self._promised[key])
        # about to come free: the run triggered on the news that another has ended is often claimed before that
        return max(_RETURN, patience or 0.0)

    def _returning(self, key: str) -> list[Container]:
        """The containers of `key` that have a run, and come free after it as far as anybody knows."""
        return [
            c
            for c in self._containers.values()
            if (c.state == "busy" or c.returning)
            and c.key.digest == key
            and (c.held or (c.assignment is not None and c.assignment.limits.warm))
            and (not self._successors.served(c) or self._successors.on_its_way(c))
        ]

    def _expected(self, key: str) -> tuple[int, list[tuple[str, float]]]:
        """How many of them are about to come free; of the others the task, and for how many seconds it has run."""
        now, returning = self._clock(), self._returning(key)
        return sum(c.returning for c in returning), [
            (c.task, now - c.serving) for c in returning if not c.returning
        ]

    async def _one_returns(self, key: str, patience: float) -> bool:
        """Waits, while the lock is held, for a container of `key` that comes free soon; False: there is none."""
        if patience <= 0:
            return False
        about, busy = self._expected(key)
        before = self._promised[key]
        if before >= about and self._forecast.worth_waiting(key, busy, before - about) is None:
            return False
        self._promised[key] += 1
        try:
            return await self._change(patience)
        finally:
            self._promised[key] -= 1

    async def _change(self, patience: float | None = None) -> bool:
        """Waits, while the lock is held, until anything has changed: a run that does so is never passed by.

        False where nothing has for `patience` seconds.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    def _idle(self, assignment: Assignment, key: ContainerKey) -> Container | None:
        name = self._warm.take(key.digest)
        return None if name is None else self._bind(self._containers[name], assignment, "warm")

    def _bind(self, container: Container, assignment: Assignment, start: Start) -> Container:
        container.returning = False
        container.held, container.account = "", None
        container.state = "starting" if start == "cold" and container.runs == 0 else "busy"
        container.assignment = assignment
        container.task = assignment.task
        container.start = start
        container.serving = self._clock()
        container.runs += 1
        return container

    def _begin(self, key: ContainerKey) -> Container:
        """A new container in the ledger, with a start slot."""
        container = Container(f"samovar-{uuid.uuid4().hex[:16]}", key, self._clock())
        self._containers[container.name] = container
        self._starts.begin(key.project)
        return container

    async def _start(self, container: Container, assignment: Assignment | None) -> None:
        uid = await self.users.take(container.name, container.key)
        passwd = await self.users.passwd(container.name, container.key.image, uid)
        await self._sidecar.register(container.name, self._unassigned(container))
        if assignment is not None:
            await self._sidecar.assign(container.name, assignment, "cold")
        sockets = self._sockets(container.name)
        spec = ContainerSpec(
            container.name, self._runner, container.key, sockets, uid, str(passwd) if passwd else None
        )
        await asyncio.to_thread(self._engine.create, spec)
        await asyncio.to_thread(self._engine.start, container.name)

    def _unassigned(self, container: Container) -> Register:
        return Register(uid=self.users.of(container.name), egress=self.egress(container))

    def _sockets(self, name: str) -> str:
        """The directory that a container finds its sidecar in; no other part has a say in it.

        Raises EngineError where it is a link: what the engine mounts would be what it points at.
        """
        path = self._settings.containers_directory / name
        for part in (path, path.parent):
            if part.is_symlink():
                raise EngineError(
                    f"{part} is a link, where the sidecar's directory of sockets has to be: remove it"
                )
        return str(path)

    async def _started(self, container: Container, starting: asyncio.Future[None]) -> None:
        """Gives the start slot back when process 1 has connected, and takes note of how the imports went."""
        project = container.key.project
        await asyncio.wait({starting})
        container.begun.set()
        if failed := starting.exception() is not None:
            self.destroy(container)
        else:
            await self._wait_for(container.connected, self._settings.connect_timeout)
        async with self._changed:
            self._starts.end(project)
            self._changed.notify_all()
        if failed:
            return
        in_time = await self._wait_for(container.settled, self._settings.start_timeout)
        if not in_time:
            log.warning("a container takes long to import its project", container=container.name)
        async with self._changed:
            if container.ready:
                self._starts.succeeded(project)
                took = self._clock() - container.since
                self._forecast.started(container.key.digest, took)
                container.serving = max(container.serving, container.since + took)
            elif container.died or not in_time:
                self._starts.failed(project)
            self._changed.notify_all()

    async def _wait_for(self, event: asyncio.Event, patience: float) -> bool:
        try:
            await asyncio.wait_for(event.wait(), patience)
        except TimeoutError:
            return False
        return True

    def _reusable(self, container: Container, memory: int | None) -> bool:
        if container.state == "leaving" or container.baseline is None or memory is None:
            return False
        if memory > max(container.baseline * _GROWTH, container.baseline + _GROWTH_BYTES):
            return False
        return not self._successors.served(container) or self._successors.replace(container)

    def _may_prepare(self, key: ContainerKey) -> bool:
        """Whether a container may be started that nobody waits for: there is room, and a slot that nobody wants."""
        if self._waiting:
            return False
        waiter = self._starts.wait(key.project, key.memory)
        possible = self._starts.is_next(waiter, self._fits) and self._fits(key.memory)
        self._starts.leave(waiter)
        return possible

    def _prepare(self, key: ContainerKey, task: str) -> Container:
        """Starts a container that nobody waits for."""
        container = self._begin(key)
        container.task, container.prepared = task, True
        self._spawn(self._started(container, asyncio.ensure_future(self._start(container, None))))
        return container

    async def _stand_ready(self, container: Container) -> None:
        """Until a container that was started for nobody is idle, or gone."""
        await self._wait_for(container.settled, self._settings.start_timeout)
        if container.state == "starting" and container.baseline is not None:
            await self._come_back(container, clean=True, memory=container.baseline)
        else:
            self.destroy(container)

    async def _remove(self, container: Container) -> None:
        container.connected.set()
        container.settled.set()
        await container.begun.wait()
        for pause in (*_REMOVAL_PAUSES, None):
            try:
                await asyncio.to_thread(self._engine.remove, container.name)
                break
            except EngineError as error:
                log.warning("could not remove a container", container=container.name, problem=str(error))
                if pause is not None:
                    await asyncio.sleep(pause)
        try:
            await self._sidecar.forget(container.name)
        except SidecarAway:
            # a sidecar that starts anew knows only what it is told
            log.debug("the sidecar is away; it will not be told of this container again", container=container.name)
        self.users.give_back(container.name)
        async with self._changed:
            self._containers.pop(container.name, None)
            self._changed.notify_all()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
