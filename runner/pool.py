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
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import structlog

from coordinator.keeping.forecast import Forecast
from coordinator.keeping.warm import WarmSet
from coordinator.wire import Assignment, Cause, Egress, Leaving, Placing, Start, Whose
from runner.causes import Causes
from runner.container import Container, Prepared
from runner.engine import Engine
from runner.expected import Expected
from runner.lives import Lives, Tally
from runner.making import Maker
from runner.preparing import Preparer
from runner.reach import Network
from runner.room import Room
from runner.settings import Settings
from runner.sidecar_client import SidecarClient
from runner.spec import ContainerKey
from runner.starts import Starts, Waiter
from runner.stems import Stems
from runner.successors import Successors
from runner.users import OneUser, Users

log = structlog.get_logger()

#: A warm container may grow by this much before it is replaced: a fifth, but not for less than 8 MiB.
_GROWTH = 1.2
_GROWTH_BYTES = 8 * 1024**2
#: Leaving for one of these, it is idle. Its removal costs the engine a good part of a start, so it waits for starts
#: under way or in line, for so many seconds at the most.
_IDLE: frozenset[Leaving] = frozenset({"runs", "age", "grew", "expired", "superseded"})
_STANDS_BACK = 1.0
#: How long a container may take to clean up after a run, in seconds: it gives up by itself after five.
_RELEASE = 8.0


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
        self._settings = settings
        self._sidecar = sidecar
        self._clock = clock
        self.users = users or OneUser()
        self._maker = Maker(runner, settings, engine, sidecar, self.users, network or Network(), clock)
        self._containers: dict[str, Container] = {}
        self._warm = WarmSet(
            keep_alive=settings.keep_alive,
            most=settings.max_warm,
            most_per_task=settings.max_warm_per_task,
            rule=settings.pool_rule,
        )
        self._room = Room(settings.memory, self._containers, self._warm, self.destroy)
        self._forecast = Forecast()
        self._starts = Starts(settings.starts, clock)
        #: Runs that wait for a container to come free, or for room to start one.
        self._waiting = 0
        self._changed = asyncio.Condition()
        self._causes = Causes()
        #: What had better stand ready.
        self.stems = Stems(clock)
        self._preparer = Preparer(
            settings,
            self._containers,
            self._starts,
            self._warm,
            self.stems,
            waited_for=lambda: self._waiting > 0,
            wanted=lambda: self._waiting > self._expected.waiters,
            fits=self._room.fits,
            begin=self._prepare,
            stand_ready=self._stand_ready,
            destroy=self.destroy,
            spawn=self._spawn,
        )
        #: What the coordinator is to be told: who has left, and how runs have begun.
        self.lives = Lives(clock)
        self.tally = Tally(clock)
        self._successors = Successors(
            settings,
            clock,
            possible=self._preparer.possible,
            begin=lambda key, task: self._prepare(key, task, "successor"),
            stand_ready=self._stand_ready,
            destroy=self.destroy,
            spawn=self._spawn,
        )
        self._expected = Expected(self._containers, self._forecast, self._successors, clock)
        self._background: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._containers.values()))

    def get(self, name: str) -> Container | None:
        return self._containers.get(name)

    @property
    def used(self) -> int:
        """Bytes that all containers together may take, and builds."""
        return self._room.used

    @property
    def reserved(self) -> int:
        """Bytes set aside for builds."""
        return self._room.reserved

    def now(self) -> float:
        """The time by the clock that everything here goes by, in seconds."""
        return self._clock()

    def take(self, assignment: Assignment, key: ContainerKey, claimed: float | None = None) -> Container | None:
        """An idle container of `key`, bound to `assignment`; None where `acquire` has to see to it.

        At once, and so the short way of a warm start; but never past a run that waits in `acquire`. `claimed`: when
        the assignment came.
        """
        return None if self._waiting else self._idle(assignment, key, self._clock() if claimed is None else claimed)

    async def acquire(
        self,
        assignment: Assignment,
        key: ContainerKey,
        *,
        fresh: Cause | None = None,
        claimed: float | None = None,
    ) -> Container:
        """A container of `key` to run `assignment` in, bound to it. `fresh`: why it can't be one that stands ready.

        A cold one is started with the assignment waiting for it at the sidecar. Raises EngineError (and
        ImageMissing) or SidecarAway; then nothing is left behind.
        """
        until: float | None = None
        waiter: Waiter | None = None
        waited = False
        claimed = self._clock() if claimed is None else claimed
        task = Whose(project=key.project, task=assignment.task)
        async with self._changed:
            try:
                while True:
                    container = None if fresh else self._idle(assignment, key, claimed, waited=waited)
                    if container is not None:
                        return container
                    waited = True
                    if not fresh:
                        until = until or time.monotonic() + self._expected.patience(key.digest)
                        if await self._one_returns(key.digest, until - time.monotonic()):
                            continue
                    if waiter is None:
                        waiter = self._starts.wait(key.project, key.memory)
                        self._changed.notify_all()  # what stands back for starts does so no more for want of memory
                    if self._starts.is_next(waiter, self._room.fits) and self._room.make(key.memory, task):
                        break
                    await self._change(self._starts.pause(key.project) or None)
            finally:
                if waiter is not None:
                    self._starts.leave(waiter)
                    self._changed.notify_all()
            others = any(c.key.digest == key.digest and c.kept for c in self._containers.values())
            cause, by = self._causes.of(key, assignment.task, others=others)
            container = self._begin(key)
        self._bind(container, assignment, "cold", claimed, fresh or cause, None if fresh else by)
        if fresh is None and cause == "parallel":
            self.stems.after_start(key, assignment.task)
        starting = asyncio.ensure_future(self._maker.make(container, assignment))
        self._spawn(self._started(container, starting))
        try:
            # whoever waits may be cancelled; the engine's call can't be, and what it makes is removed after it
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.destroy(container, "unwanted")
            raise
        return container

    def adopt(self, name: str, key: ContainerKey, assignment: Assignment) -> Container:
        """Takes a running container, found at start, into the ledger; it is not used again after its run."""
        container = Container(name, key, self._clock())
        container.begun.set()
        self._containers[name] = container
        self._bind(container, assignment, "cold", self._clock())
        container.placing = None
        return container

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
            self.destroy(container, "unclean")

    async def release(
        self,
        container: Container,
        *,
        clean: bool,
        memory: int | None,
        why: Leaving = "unclean",
        at_leisure: bool = False,
    ) -> None:
        """The run in `container` has ended: keeps it warm where the rules allow it, else destroys it.

        `why`: of one that is not clean; `at_leisure`: which nothing goes on in, all the same.
        """
        if clean:
            self._forecast.ran(container.task, self._clock() - container.serving)
        await self._come_back(container, clean=clean, memory=memory, why=why, at_leisure=at_leisure)

    async def _come_back(
        self,
        container: Container,
        *,
        clean: bool,
        memory: int | None,
        why: Leaving = "unclean",
        at_leisure: bool = False,
    ) -> None:
        task = container.task
        if container.runs:
            container.samples.append((container.peak, memory))
            container.peak = None
        container.used = memory
        container.assignment = None
        container.returning = False
        container.held, container.account = "", None
        leaves = self._leaves(container, memory) if clean else why
        if leaves is not None:
            self.destroy(container, leaves, at_leisure=at_leisure)
            return
        async with self._changed:
            if container.state == "leaving":
                return  # it died while others had the lock
            container.state = "idle"
            digest = container.key.digest
            cost = self._forecast.start(digest)
            size = container.key.memory
            leaving = self._warm.put(container.name, digest, task, self._clock(), memory=size, cost=cost)
            container.worth = self._warm.worth(container.name)
            for name in leaving:
                self.destroy(self._containers[name], "evicted", Whose(project=container.key.project, task=task))
            self._changed.notify_all()

    def egress(self, container: Container) -> Egress | None:
        """What the sidecar lets a container reach."""
        return self._maker.egress(container)

    def destroy(
        self, container: Container, why: Leaving, by: Whose | None = None, *, at_leisure: bool = False
    ) -> None:
        """Ends a container whatever it does; its memory is free when the engine has removed it. `by`: for whom.

        `at_leisure`: nothing goes on in it.
        """
        if container.state == "leaving":
            return
        self.lives.left(container, why, by)
        self._causes.left(container.key, why, by)
        self._warm.remove(container.name)
        container.state = "leaving"
        container.returning = False
        container.released.set()
        container.assignment = None
        self._spawn(self._remove(container, at_leisure or why in _IDLE))

    async def expire(self) -> None:
        """Ends the containers that have been idle long enough, or have become too old; and starts stems."""
        for name in self._warm.expired(self._clock()):
            self.destroy(self._containers[name], "expired")
        for container in [self._containers[idle.name] for idle in self._warm]:
            served = self._successors.served(container)
            if served and not self._successors.replace(container):
                self.destroy(container, served)
        self._preparer.step()

    def set_aside(self, memory: int) -> None:
        """Keeps so many bytes for a build, until they are given back."""
        self._room.reserved += memory

    async def give_back(self, memory: int) -> None:
        """Ends what was set aside."""
        async with self._changed:
            self._room.reserved -= memory
            self._changed.notify_all()

    async def close(self) -> None:
        """Destroys every container and waits until the engine has removed them."""
        for container in self:
            self.destroy(container, "drained")
        while self._background:
            await asyncio.wait(self._background)

    # ------------------------------------------------------------

    async def _one_returns(self, key: str, patience: float) -> bool:
        """Waits, while the lock is held, for a container of `key` that comes free soon; False: there is none."""
        if patience <= 0:
            return False
        if not self._expected.one_more(key):
            return False
        with self._expected.promised(key):
            return await self._change(patience)

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

    def _idle(
        self, assignment: Assignment, key: ContainerKey, claimed: float, *, waited: bool = False
    ) -> Container | None:
        name = self._warm.take(key.digest)
        if name is None:
            return None
        container = self._containers[name]
        start: Start = "stem" if not container.runs else "waited" if waited else "warm"
        return self._bind(container, assignment, start, claimed)

    def _bind(
        self,
        container: Container,
        assignment: Assignment,
        start: Start,
        claimed: float,
        cause: Cause | None = None,
        by: Whose | None = None,
    ) -> Container:
        container.returning = False
        container.held, container.account = "", None
        container.state = "starting" if start == "cold" and container.runs == 0 else "busy"
        container.assignment = assignment
        container.task = assignment.task
        container.start = start
        container.worth = None
        container.serving = now = self._clock()
        self.stems.ran(container.key, assignment.task)
        container.runs += 1
        container.placing = Placing(
            container=container.name,
            seconds=max(0.0, now - claimed),
            number=container.runs,
            cause=cause,
            evicted_by=by,
        )
        return container

    def _begin(self, key: ContainerKey) -> Container:
        """A new container in the ledger, with a start slot."""
        container = self._add(key)
        self._starts.begin(key.project)
        return container

    def _add(self, key: ContainerKey) -> Container:
        container = Container(f"samovar-{uuid.uuid4().hex[:16]}", key, self._clock())
        self._containers[container.name] = container
        return container

    async def _started(self, container: Container, starting: asyncio.Future[None]) -> None:
        """Gives the start slot back when process 1 has connected, and takes note of how the imports went."""
        project = container.key.project
        await asyncio.wait({starting})
        container.begun.set()
        if failed := starting.exception() is not None:
            self.destroy(container, "failed")
        else:
            await self._wait_for(container.connected, self._settings.connect_timeout)
        async with self._changed:
            if container.prepared != "stem":
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

    def _leaves(self, container: Container, memory: int | None) -> Leaving | None:
        """Why a container is not used again after a run that has left it clean; None: it is."""
        if container.state == "leaving" or container.baseline is None or memory is None:
            return "unclean"
        if memory > max(container.baseline * _GROWTH, container.baseline + _GROWTH_BYTES):
            return "grew"
        served = self._successors.served(container)
        return None if served is None or self._successors.replace(container) else served

    def _prepare(self, key: ContainerKey, task: str, what: Prepared) -> Container:
        """Starts a container that nobody waits for."""
        container = self._add(key) if what == "stem" else self._begin(key)
        container.task, container.prepared = task, what
        self._spawn(self._started(container, asyncio.ensure_future(self._maker.make(container, None))))
        return container

    async def _stand_ready(self, container: Container) -> None:
        """Until a container that was started for nobody is idle, or gone."""
        await self._wait_for(container.settled, self._settings.start_timeout)
        if container.prepared == "stem" and not self._warm.has_room(container.task):
            self.destroy(container, "unwanted")  # others have come meanwhile, and none of them leaves for it
        elif container.state == "starting" and container.baseline is not None:
            await self._come_back(container, clean=True, memory=container.baseline)
        else:
            self.destroy(container, "failed")

    async def _remove(self, container: Container, at_leisure: bool) -> None:
        container.connected.set()
        container.settled.set()
        if at_leisure and not container.key.untrusted:
            await self._stand_back()
        await self._maker.unmake(container)
        async with self._changed:
            self._containers.pop(container.name, None)
            self._changed.notify_all()

    async def _stand_back(self) -> None:
        """Lets starts go first, unless one waits for memory."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STANDS_BACK), self._changed:
                while self._starts.goes_first(self._room.fits):
                    await self._changed.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
