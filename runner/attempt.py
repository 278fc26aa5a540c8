"""The life of one attempt, top to bottom: place it, watch it, end it, account for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from coordinator.wire import Assignment, CancelAttempt, Cause, ErrorBody, Leaving, Lost, Reason, SidecarEvent
from runner.container import Container, Died, EndAsked
from runner.coordinator_client import CoordinatorClient
from runner.engine import Engine
from runner.errors import CoordinatorAway, CoordinatorRefused, EngineError, ImageMissing, Rejected, SidecarAway
from runner.policy import Policy
from runner.pool import Pool
from runner.records import Record, Records
from runner.settings import Settings, host_cpus, host_memory
from runner.sidecar_client import SidecarClient
from runner.spec import ContainerKey

log = structlog.get_logger()

#: Seconds that a run is looked at as being handed over, and as having just begun.
_HANDING, _MOMENT = 0.05, 0.03
#: Beyond the grace, for the harness to say that it has ended the run.
_FAREWELL = 2.0
_RETRY = 0.3
#: A sidecar that died is started again within seconds; placing an attempt waits for it this long.
_SIDECAR_PATIENCE = 20.0

#: A kill that the engine has not confirmed is repeated.
_KILL_AGAIN = 10.0

EndReason = Literal["canceled", "timeout", "abandoned", "stopped"]
Stage = Literal["starting", "running", "ending", "killed"]


@dataclass(frozen=True)
class Host:
    """What attempts share on this host."""

    settings: Settings
    policy: Policy
    engine: Engine
    sidecar: SidecarClient
    coordinator: CoordinatorClient
    pool: Pool
    records: Records


@dataclass
class End:
    """How an attempt ended here. `lost`: what the coordinator has still to be told."""

    lost: Lost | None = None
    clean: bool = False
    memory: int | None = None
    #: The container is still to be cleaned up: what may become of it is said afterwards.
    held: bool = False
    #: Why the container leaves, where it is not clean.
    why: Leaving = "unclean"
    #: The container never began the run: it may begin in another one.
    unstarted: bool = False


class Attempt:
    """One claimed run on this host. The agent extends `lease` and calls `end`; `run` does the rest."""

    def __init__(self, host: Host, assignment: Assignment) -> None:
        self.assignment = assignment
        self.lease = time.monotonic() + assignment.lease
        self._host = host
        #: When it came, by the pool's clock.
        self._claimed = host.pool.now()
        self._container: Container | None = None
        self._ending: EndReason | None = None
        self._asked = asyncio.Event()
        self._stage: Stage = "starting"
        #: Whether its user code has ever begun.
        self._begun = False
        #: Whether it waits for a container to start; when it came, and when its user code began here, by the
        #: monotonic clock.
        self._waits = False
        self._came, self._began_at = time.monotonic(), 0.0
        self._deadline = float("inf")
        #: Seconds the user code may take, extensions included.
        self._allowed = assignment.limits.timeout + assignment.limits.extended
        self._extended = assignment.limits.extended
        #: When the run's whole time is over, by the monotonic clock.
        total = assignment.limits.total_left
        self._total_end = float("inf") if total is None else time.monotonic() + total

    @property
    def id(self) -> str:
        return self.assignment.attempt

    @property
    def _warm(self) -> bool:
        """Whether it may have a container that has had a run, and its own be used again."""
        return self.assignment.limits.warm and self.assignment.limits.trust != "untrusted"

    @property
    def hurries(self) -> bool:
        """Whether it is being handed over to a container that stands ready, or was a moment ago: for that time it
        wants the processors, as it will at its end, which for many runs is there by then. A container that does not
        take its run wants none, and keeps nobody waiting.
        """
        if self._stage == "starting":
            return not self._waits and time.monotonic() < self._came + _HANDING
        return time.monotonic() < self._began_at + _MOMENT

    def end(self, reason: EndReason) -> None:
        """Asks for the end of this attempt; of two reasons the more final one counts.

        `canceled` and `timeout` give the task its grace; `abandoned` (the lease is gone) and `stopped`
        (the runner goes) kill the container at once.
        """
        if self._ending in ("abandoned", "stopped") or self._ending == reason:
            return
        self._ending = reason
        self._asked.set()
        if self._container is not None:
            self._container.tell(EndAsked(self.id))

    async def run(self) -> None:
        """From the claim to the end. Never raises: what goes wrong is told to the coordinator."""
        await self._account_for(self._place_and_watch())

    async def run_adopted(self, container: Container, record: Record) -> None:
        """Takes over an attempt that a former life of this runner started. Never raises, as `run`."""
        self._container = container
        self._waits = True  # for as long as its imports take
        if record.deadline is not None:
            self._stage, self._begun = "running", True
            # what was granted while nobody was here to hear of it
            more = max(0.0, self._allowed - (record.allowed or self._allowed))
            self._deadline = time.monotonic() + record.deadline + more - time.time()
        await self._account_for(self._to_its_end(container, reuse=False))

    async def _account_for(self, life: Coroutine[Any, Any, End]) -> None:
        try:
            end = await life
        except Rejected as error:
            end = End(self._account("rejected", str(error)))
        except ImageMissing as error:
            # nothing has run: the coordinator has the image built again, and the run waits for it
            message = f"the image {self.assignment.image} is not on this host: {error}"
            account = self._account("lost", message).model_copy(update={"missing_image": self.assignment.image})
            end = End(account)
        except (EngineError, SidecarAway) as error:
            end = End(self._account("lost", f"the container could not be started: {error}"))
        except Exception as error:
            log.exception("an attempt broke the runner's rules", attempt=self.id)
            end = End(self._account("lost", f"the runner failed: {error!r}"))
        if end.lost is not None:
            await self._tell(end.lost)

    # ------------------------------------------------------------ a place to run

    async def _place_and_watch(self) -> End:
        host, a = self._host, self.assignment
        key = ContainerKey.of(a, host.policy, host_memory(), host_cpus())
        fresh: Cause | None = None if self._warm else "not_kept"
        if key.untrusted and (problem := await asyncio.to_thread(host.engine.sandbox_problem)) is not None:
            raise Rejected(problem)  # it was there when the policy last heard
        while True:
            container = await self._place(key, fresh)
            if container is None:
                return End(self._farewell("before it had a container"))
            self._container = container
            if self._asked.is_set():
                container.tell(EndAsked(self.id))
            end = await self._to_its_end(container)
            if not end.unstarted or container.start == "cold":
                return end
            log.warning("a warm container did not take its run; starting a new one", container=container.name)
            self._stage, fresh = "starting", "died"

    async def _place(self, key: ContainerKey, fresh: Cause | None) -> Container | None:
        """A container that has the assignment; None where the attempt is to end before it has one."""
        patience = time.monotonic() + _SIDECAR_PATIENCE
        while True:
            container: Container | None = None
            if not fresh and not self._asked.is_set():
                container = self._host.pool.take(self.assignment, key, self._claimed)
            try:
                if container is None:
                    self._waits = True
                    container = await self._acquire(key, fresh)
                if container is None:
                    return None
                self._host.records.save(container.name, Record(self.id))
                if container.start != "cold":
                    assign = self._host.sidecar.assign
                    await assign(container.name, self.assignment, container.start, container.placing)
                return container
            except BaseException as error:
                if container is not None:
                    self._undo(container)
                if not isinstance(error, SidecarAway) or time.monotonic() > patience:
                    raise
            await asyncio.sleep(_RETRY)

    async def _acquire(self, key: ContainerKey, fresh: Cause | None) -> Container | None:
        acquire = self._host.pool.acquire
        acquiring = asyncio.create_task(acquire(self.assignment, key, fresh=fresh, claimed=self._claimed))
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait({acquiring, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not acquiring.done():
            acquiring.cancel()
            await asyncio.wait({acquiring})
            if acquiring.cancelled() or acquiring.exception() is not None:
                return None
        return acquiring.result()

    def _undo(self, container: Container) -> None:
        """Nothing is left of a container whose attempt came to no end that could be told."""
        self._host.pool.destroy(container, "failed")
        with suppress(OSError):
            self._host.records.forget(container.name)

    # ------------------------------------------------------------ the watch

    async def _to_its_end(self, container: Container, *, reuse: bool = True) -> End:
        try:
            end = await self._watch(container)
            await self._release(container, end, reuse=reuse)
        except BaseException:
            self._undo(container)
            raise
        return end

    async def _watch(self, container: Container) -> End:
        """Until the attempt has ended in `container`, one way or another."""
        settings = self._host.settings
        if self._stage == "starting":
            warm = container.start != "cold"
            self._deadline = time.monotonic() + (settings.handover_timeout if warm else settings.start_timeout)
        while True:
            left = max(0.0, self._deadline - time.monotonic())
            try:
                what = await asyncio.wait_for(container.inbox.get(), min(left, 3600.0))
            except TimeoutError:
                if self._deadline <= time.monotonic():
                    await self._overdue(container)
                continue
            if isinstance(what, EndAsked):
                if what.attempt == self.id:
                    await self._carry_out(container)
            elif isinstance(what, Died):
                return await self._after_death(container)
            elif what.attempt in (None, self.id):
                # a container used before may still have something in its box about its last run
                end = self._hear(container, what)
                if end is not None:
                    return end

    def _hear(self, container: Container, event: SidecarEvent) -> End | None:
        """Takes note of what the sidecar says; an End where that is the end."""
        if event.kind == "ready" and event.error is not None:
            return End(self._account("exception", _of_import(event.error)), why="failed")
        if event.kind == "started" and self._stage == "starting":
            self._stage, self._begun = "running", True
            self._began_at = time.monotonic()
            container.state = "busy"
            if (placing := container.placing) is not None:
                self._host.pool.tally.began(self.assignment.project, container.start, placing.cause)
            self._start_clock(container, self._allowed)
        elif event.kind == "extended" and self._stage == "running":
            more = max(0.0, (event.seconds or 0.0) - self._extended)
            self._extended += more
            if longest := self._host.policy.limits.timeout:
                # for the whole attempt, or one could ask for a little more without end
                more = max(0.0, min(more, longest - self._allowed))
            self._allowed += more
            self._start_clock(container, self._deadline - time.monotonic() + more)
        elif event.kind == "finished":
            by_itself = event.outcome in ("completed", "failed", "waiting") and event.reason in (None, "exception")
            return End(clean=(event.clean or event.held) and by_itself, memory=event.memory, held=event.held)
        elif event.kind == "stale":
            # where the coordinator knows that already, this account changes nothing
            return End(self._account("lost", "the container does not hold this attempt's lease any more"))
        elif event.kind == "idle":
            return End(self._account("lost", "the container came back without the run"))
        return None

    def _start_clock(self, container: Container, seconds: float) -> None:
        longest = self._host.policy.limits.timeout
        seconds = min(seconds, longest) if longest else seconds
        seconds = max(0.0, min(seconds, self._total_end - time.monotonic()))
        self._deadline = time.monotonic() + seconds
        self._host.records.save(container.name, Record(self.id, time.time() + seconds, self._allowed))

    async def _overdue(self, container: Container) -> None:
        if self._stage == "running":
            self.end("timeout")
            self._deadline = float("inf")
        else:
            await self._kill(container)

    async def _carry_out(self, container: Container) -> None:
        """Ends the run: politely where there is time for it and somebody to ask."""
        settings = self._host.settings
        if self._ending in ("canceled", "timeout"):
            if self._stage in ("ending", "killed"):
                return
            body = CancelAttempt(
                attempt=self.id, reason=self._ending, grace=settings.grace, message=self._why_ended()
            )
            try:
                if await self._host.sidecar.cancel(container.name, body):
                    self._stage = "ending"
                    self._deadline = time.monotonic() + settings.grace + _FAREWELL
                    return
            except SidecarAway as error:
                log.warning("the sidecar is away; killing the container", attempt=self.id, problem=str(error))
        await self._kill(container)

    async def _kill(self, container: Container) -> None:
        """SIGKILL to the whole container; its death is confirmed by the engine before anything is said of it."""
        self._stage = "killed"
        self._deadline = time.monotonic() + _KILL_AGAIN
        try:
            await asyncio.to_thread(self._host.engine.kill, container.name)
            state = await asyncio.to_thread(self._host.engine.inspect, container.name)
        except EngineError as error:
            log.warning("could not kill a container", container=container.name, problem=str(error))
            return
        if state is None or not state.running:
            container.tell(Died())

    # ------------------------------------------------------------ the account

    async def _after_death(self, container: Container) -> End:
        """What to say of a container that died under its run: by evidence, not by guess."""
        state = await asyncio.to_thread(self._host.engine.inspect, container.name)
        code = state.exit_code if state else None
        if self._ending is not None:
            return End(self._farewell("its container was killed", code), why="ended")
        if self._stage == "killed":
            account = self._account("lost", "the container did not start the run in time", code)
            return End(account, why="failed", unstarted=True)
        if container.overdrawn or (state is not None and state.out_of_memory):
            limit = container.key.memory
            who = "the runner" if container.overdrawn else "the kernel"
            how = "the sandbox had taken more" if container.overdrawn else "the engine reports OOMKilled"
            message = (
                f"{who} ended the container at its memory limit of {limit / 1024**2:.0f} MiB "
                f"({how}); ask for more with @task(memory=...)"
            )
            return End(self._account("out_of_memory", message, code, peak=limit), why="died")
        unstarted = self._stage == "starting"
        account = self._account("lost", f"the container died with exit code {code}", code)
        return End(account, why="died", unstarted=unstarted)

    def _farewell(self, how: str, code: int | None = None) -> Lost | None:
        """The account of an attempt that somebody asked to end."""
        if self._ending == "abandoned":
            return None
        if self._ending in ("canceled", "timeout"):
            return self._account(self._ending, f"{self._why_ended()}; {how}", code)
        return self._account("lost", f"the runner was stopped; {how}", code)

    def _why_ended(self) -> str:
        if self._ending == "timeout":
            if time.monotonic() >= self._total_end:
                return "the run's total_timeout is over, with all its attempts and waits"
            return f"the run took longer than its timeout of {self._allowed:g} s"
        return "the run was canceled"

    def _account(self, reason: Reason, message: str, code: int | None = None, peak: int | None = None) -> Lost:
        placed = None if self._begun else self._container
        return Lost(
            token=self.assignment.token,
            reason=reason,
            message=message,
            exit_code=code,
            peak_memory_bytes=peak,
            start=None if placed is None else placed.start,
            placing=None if placed is None else placed.placing,
        )

    async def _release(self, container: Container, end: End, *, reuse: bool) -> None:
        self._host.records.forget(container.name)
        # where somebody asked for the end, the container may be on its way to death, whatever it said meanwhile
        by_itself = end.clean and end.lost is None and self._ending is None
        clean = reuse and self._warm and by_itself
        if clean and end.held:
            self._host.pool.hold(container)  # the attempt is over: nothing of what comes is this one's
        else:
            why: Leaving = "not_kept" if not self._warm else "ended" if self._ending is not None else end.why
            await self._host.pool.release(container, clean=clean, memory=end.memory, why=why, at_leisure=by_itself)

    async def _tell(self, lost: Lost) -> None:
        """Tells the coordinator for as long as the lease lasts; after it the sweep knows by itself."""
        while time.monotonic() < self.lease:
            try:
                await self._host.coordinator.lost(self.id, lost)
                return
            except CoordinatorRefused as error:
                # not named by the next heartbeats, it is lost all the same
                log.error("the coordinator refuses an account", attempt=self.id, problem=str(error))
                return
            except CoordinatorAway:
                await asyncio.sleep(_RETRY)


def _of_import(error: ErrorBody) -> str:
    return f"the project's modules could not be imported: {error.type}: {error.message}\n{error.traceback or ''}"
