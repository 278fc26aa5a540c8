"""The runner: one on each Docker host. It owns the containers, and so it alone holds the Docker socket.

It calls the coordinator and its sidecar; nobody calls it. It knows no database and keeps no secret: what an
attempt may write with passes through it on the way to the sidecar.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable

import structlog

import images.build as images
from coordinator.wire import ClaimRequest, CommandsRequest, Heartbeat, Held, SidecarEvent, Wanted
from images.errors import BuildError
from images.removal import remove_version
from runner.attempt import Attempt, Host
from runner.building import BuildJob
from runner.container import Container, Died
from runner.coordinator_client import CoordinatorClient
from runner.engine import Engine
from runner.enrolment import enrol
from runner.errors import CoordinatorAway, EngineError, Rejected, SidecarAway
from runner.policy import Policy
from runner.pool import Pool
from runner.reconcile import Adopted, reconcile, register_again
from runner.records import Record, Records
from runner.settings import Settings, host_cpus, host_memory
from runner.sidecar_client import SidecarClient
from runner.spec import ContainerKey
from runner.telling import Telling
from runner.users import Users
from runner.weights import Weights

log = structlog.get_logger()

_POLL = 25.0
_CLAIM_MOST = 8
#: Attempts that are handed over at a time, for each processor; and seconds until it is looked again how many are.
_HURRYING = 2
_HURRY = 0.005
_RETRY = 0.3
#: A runner that cannot renew a lease ends the attempt this long before the lease does.
_FENCE = 5.0
_TICK = 0.5
_GUARD = 0.1
_AUDIT = 10.0
_TIDY, _TIDY_AGAIN = 60.0, 5.0
_FAREWELL = 2.0


class Agent:
    """Runs until `stop`; then drains, and leaves no container behind."""

    def __init__(self, settings: Settings, engine: Engine, policy: Policy) -> None:
        self._settings = settings
        self._engine = engine
        records = Records(settings.state)
        self.id = records.runner_id()
        sidecar = SidecarClient(settings.sidecar_socket)
        coordinator = CoordinatorClient(settings.coordinator_url, settings.bearer() or "", self.id)
        users = Users(engine, settings.state, settings.uid_range)
        self.pool = Pool(self.id, settings, engine, sidecar, users=users, network=policy.network)
        self._host = Host(settings, policy, engine, sidecar, coordinator, self.pool, records)
        self._telling = Telling(self.pool, self.pool.now)
        self._attempts: dict[str, Attempt] = {}
        #: Attempts that are handed over at a time; set when one has ended.
        self._in_a_hurry = _HURRYING * host_cpus()
        self._moved = asyncio.Event()
        self._builds: dict[str, BuildJob] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._canceled: set[str] = set()
        self._weights = Weights()
        self._build_slots = asyncio.Condition()
        self._built = asyncio.Event()
        self._boot = ""
        self._stopping = asyncio.Event()
        self._watching = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        watch = threading.Thread(
            target=self._engine.watch,
            args=(self.id, lambda name: loop.call_soon_threadsafe(self._died, name), self._watching.is_set),
            name="engine-events",
            daemon=True,
        )
        watch.start()
        with contextlib.suppress(EngineError):
            self._host.policy.learn(await asyncio.to_thread(self._engine.sandbox_problem))
        events = self._duty(self._read_events)
        adopting = asyncio.create_task(self._join())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.to_thread(images.clean, self._settings.state)
        await asyncio.wait({adopting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failed = adopting.exception() if adopting.done() else None
        if adopting.done() and failed is None:
            for attempt, container, record in adopting.result():
                self._begin_adopted(attempt, container, record)
            claims = [self._duty(self._claim_runs), self._duty(self._claim_builds)]
            steps = (self._beat, self._obey, self._tick, self._weigh, self._guard, self._audit, self._tidy)
            others = [self._duty(step) for step in steps]
            log.info("ready", runner=self.id, slots=self._settings.slots, memory=self._settings.memory)
            await stopping
            for task in claims:
                task.cancel()
            # heartbeats go on while the last attempts drain
            await self._drain()
            for task in others:
                task.cancel()
        else:
            adopting.cancel()
        await self.pool.close()
        if failed is None and adopting.done():
            # what the last containers have left for; nobody is kept waiting for it
            with contextlib.suppress(CoordinatorAway, TimeoutError):
                await asyncio.wait_for(self._tell(time.monotonic()), _FAREWELL)
        events.cancel()
        self._watching.set()
        await self._host.sidecar.close()
        await self._host.coordinator.close()
        if failed is not None:
            raise failed

    async def _join(self) -> list[Adopted]:
        await enrol(self._host.coordinator, self._settings)
        return await reconcile(self._host, self.id)

    # ------------------------------------------------------------ duties, each a loop of one step

    def _duty(self, step: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(self._forever(step))

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except (CoordinatorAway, SidecarAway, EngineError) as error:
                log.warning("trying again", duty=step.__name__, problem=str(error))
                await asyncio.sleep(_RETRY)
            except Exception:
                log.exception("a duty failed; trying again", duty=step.__name__)
                await asyncio.sleep(_RETRY)

    async def _claim_runs(self) -> None:
        """Of what waits in line no more is taken than the processors can hand over: the rest waits there, where the
        turns of projects and tasks are, and not here behind what was taken before it.
        """
        while (room := self._in_a_hurry - sum(attempt.hurries for attempt in self._attempts.values())) <= 0:
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), _HURRY)
        request = ClaimRequest(
            memory=self._settings.memory - self.pool.reserved,
            slots=self._settings.slots,
            most=min(_CLAIM_MOST, room),
            timeout=_POLL,
        )
        for assignment in (await self._host.coordinator.claim(request)).assignments:
            if assignment.attempt not in self._attempts:
                attempt = Attempt(self._host, assignment)
                self._attempts[attempt.id] = attempt
                self._spawn(self._attempt_to_its_end(attempt))
        # the new attempts first: they hand their runs over before the next claim is made up
        await asyncio.sleep(0)

    async def _claim_builds(self) -> None:
        """A poll of its own, held only while a build could begin: a held poll can't learn that one ended."""
        async with self._build_slots:
            while len(self._builds) >= self._settings.builds:
                await self._build_slots.wait()
        builds = self._settings.builds
        shares = self._host.policy.build_shares(builds)
        request = ClaimRequest(memory=0, slots=0, most=0, builds=builds, build_shares=shares, timeout=_POLL)
        for build in (await self._host.coordinator.claim(request)).builds:
            host = self._host
            job = BuildJob(build, self._settings, host.policy, host.coordinator, host.records, host.sidecar)
            self._builds[job.id] = job
            self._spawn(self._build_to_its_end(job))

    async def _beat(self) -> None:
        began = time.monotonic()
        await self._tell(began)
        await asyncio.sleep(max(0.0, began + self._settings.heartbeat - time.monotonic()))

    async def _tell(self, began: float) -> None:
        told, left, starts = self._telling.say(), self.pool.lives.untold(), self.pool.tally.untold()
        beat = Heartbeat(
            attempts=[Held(id=a.id, token=a.assignment.token) for a in self._attempts.values()],
            builds=[Held(id=b.id, token=b.build.token) for b in self._builds.values()],
            pool=told.entries,
            gone=told.gone,
            base=told.base,
            state=told.state,
            left=left,
            starts=starts,
            memory=self._settings.memory,
            slots=self._settings.slots,
            task_memory=self._host.policy.task_memory(min(self._settings.memory, host_memory())),
            shares=self._host.policy.shares_of(self._settings.memory, self._settings.slots),
        )
        reply = await self._host.coordinator.heartbeat(beat)
        self._telling.heard(reply.pool)
        self.pool.lives.told(left)
        self.pool.tally.told(starts)
        for wanted in reply.wanted:
            self._wish(wanted)
        lost = set(reply.lost)
        for held in beat.attempts:
            attempt = self._attempts.get(held.id)
            if attempt is not None and held.id in lost:
                attempt.end("abandoned")
            elif attempt is not None:
                attempt.lease = began + reply.lease
        for held in beat.builds:
            if (job := self._builds.get(held.id)) is not None and held.id not in lost:
                job.lease = began + reply.lease

    def _wish(self, wanted: Wanted) -> None:
        """Takes note of what had better stand ready, where the task runs on this host."""
        stems, deployed = self.pool.stems, wanted.why == "deploy"
        try:
            key = ContainerKey.of(wanted, self._host.policy, host_memory(), host_cpus())
        except Rejected:
            return  # its runs hear of that
        # of a new version: where runs of the one before would have found a container
        if wanted.here or stems.lately(key, wanted.task, other=deployed):
            stems.wish(wanted.id, key, wanted.task, wanted.within, supersedes=deployed)

    async def _obey(self) -> None:
        self._canceled &= self._attempts.keys()
        reply = await self._host.coordinator.commands(CommandsRequest(known=sorted(self._canceled), timeout=_POLL))
        for cancel in reply.cancels:
            self._canceled.add(cancel.attempt)
            if (attempt := self._attempts.get(cancel.attempt)) is not None:
                attempt.end("canceled")
            else:
                # claimed, and its answer still on the way: said again by the next poll
                self._canceled.discard(cancel.attempt)
                await asyncio.sleep(_RETRY)

    async def _tick(self) -> None:
        now = time.monotonic()
        for attempt in self._attempts.values():
            if now > attempt.lease - _FENCE:
                log.warning("a lease could not be renewed; ending its attempt", attempt=attempt.id)
                attempt.end("abandoned")
        await self.pool.expire()
        await asyncio.sleep(_TICK)

    async def _weigh(self) -> None:
        """Divides the processors by project, where several are busy."""
        for name, weight in self._weights.due(self.pool, self.pool.now()).items():
            try:
                await asyncio.to_thread(self._engine.weigh, name, weight)
            except EngineError as error:
                self._weights.failed(name)
                log.debug("a container keeps its share of the processors", container=name, problem=str(error))
        await asyncio.sleep(_TICK)

    async def _guard(self) -> None:
        """Ends sandboxes that take more memory than they may, where the host's kernel does not."""
        for container in self.pool:
            if not container.key.untrusted or not container.begun.is_set() or container.state == "leaving":
                continue
            try:
                taken = await asyncio.to_thread(self._engine.sandbox_memory, container.name)
                if taken is None or taken <= container.key.memory:
                    continue
                log.info("ending a sandbox that has taken too much", container=container.name, bytes=taken)
                container.overdrawn = True
            except EngineError as error:
                log.error("ending a sandbox", container=container.name, problem=str(error))
            await asyncio.to_thread(self._engine.kill, container.name)
        await asyncio.sleep(_GUARD)

    async def _audit(self) -> None:
        """Holds the pool against the engine: the stream of deaths has gaps when the engine restarts."""
        self._host.policy.learn(await asyncio.to_thread(self._engine.sandbox_problem))
        before = {c.name for c in self.pool}
        # only those that ran before the engine is asked: one that starts meanwhile is not dead
        begun = [c.name for c in self.pool if c.begun.is_set()]
        there = {state.name: state for state in await asyncio.to_thread(self._engine.list, self.id)}
        for name in begun:
            if name not in there or not there[name].running:
                self._died(name)
        for name in there.keys() - before - {c.name for c in self.pool}:
            log.warning("removing a stray container", container=name)
            await asyncio.to_thread(self._engine.remove, name)
        await asyncio.sleep(_AUDIT)

    async def _tidy(self) -> None:
        """Removes the images of versions that nothing needs any more; what a container needs, the next time."""
        self._built.clear()
        # not beside a build, which may be about to find one of them
        async with self._build_slots:
            held = self._host.records.images()
            pause = _TIDY
            if held and not self._builds:
                for image in await self._host.coordinator.removable_images(held):
                    try:
                        if await asyncio.to_thread(remove_version, image):
                            self._host.records.forget_image(image)
                            log.info("removed an image that no version needs", image=image)
                        else:
                            pause = _TIDY_AGAIN
                    except BuildError as error:
                        log.warning("an image could not be removed", image=image, problem=str(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._built.wait(), pause)

    async def _read_events(self) -> None:
        """Hands the sidecar's events to their containers; a sidecar that began anew is told everything again."""
        heard = await self._host.sidecar.events(self._boot)
        if heard.boot != self._boot:
            await register_again(self._host)
            self._boot = heard.boot
        elif gaps := {event.container for event in heard.events if event.kind == "gap"}:
            await register_again(self._host, gaps)
        for event in heard.events:
            self._happened(event)
        self._host.sidecar.seen(heard)

    # ------------------------------------------------------------

    def _happened(self, event: SidecarEvent) -> None:
        container = self.pool.get(event.container)
        if container is None or event.kind == "gap":
            return
        if event.kind == "disconnected" and container.assignment is None:
            self.pool.destroy(container, "died")
        else:
            container.tell(event)

    def _died(self, name: str) -> None:
        container = self.pool.get(name)
        if container is None or container.state == "leaving":
            return
        if container.assignment is None:
            self.pool.destroy(container, "died")
        else:
            container.tell(Died())

    async def _attempt_to_its_end(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        finally:
            self._attempts.pop(attempt.id, None)
            self._moved.set()

    def _begin_adopted(self, attempt: Attempt, container: Container, record: Record) -> None:
        async def to_its_end() -> None:
            try:
                await attempt.run_adopted(container, record)
            finally:
                self._attempts.pop(attempt.id, None)

        self._attempts[attempt.id] = attempt
        self._spawn(to_its_end())

    async def _build_to_its_end(self, job: BuildJob) -> None:
        # all builds together take at most half of what runs have
        memory = min(job.memory, self._settings.memory // (2 * self._settings.builds))
        self.pool.set_aside(memory)
        async with self._build_slots:
            pass  # images are not being removed now, and no more while it is there
        try:
            await job.run()
        finally:
            async with self._build_slots:
                self._builds.pop(job.id, None)
                self._build_slots.notify_all()
            self._built.set()
            await self.pool.give_back(memory)

    async def _drain(self) -> None:
        """Gives running attempts a little time, then kills them; they go on from their checkpoints elsewhere."""
        for job in self._builds.values():
            job.abandon()
        await asyncio.to_thread(images.clean, self._settings.state)
        if self._work:
            await asyncio.wait(self._work, timeout=self._settings.drain)
        for attempt in self._attempts.values():
            attempt.end("stopped")
        if self._work:
            await asyncio.wait(self._work, timeout=2 * self._settings.grace)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
