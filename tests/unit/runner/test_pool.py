"""The pool over an engine that fails on purpose, with a real sidecar beside it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from coordinator.wire import Assignment, SidecarEvent, TaskLimits
from runner.container import Container
from runner.errors import EngineError, ImageMissing
from runner.pool import Pool
from runner.settings import Settings
from runner.sidecar_client import SidecarClient
from runner.spec import ContainerKey
from sidecar.server import Server
from sidecar.settings import Settings as SidecarSettings
from tests.fakes import FakeEngine, NeverStartsEngine, SlowEngine, StuckRemovalEngine
from tests.waiting import eventually_async

MIB = 1024**2
IMAGE = "samovar/tests:image"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    engine: FakeEngine
    pool: Pool
    clock: Clock
    #: Where the directories of the containers' sockets are.
    sockets: Path
    numbers: list[int] = field(default_factory=lambda: [0])

    def assignment(self, task: str = "t", memory: int = 100 * MIB) -> Assignment:
        self.numbers[0] += 1
        return Assignment(
            attempt=f"a{self.numbers[0]}", token=1, secret="s", run="r", number=1, project="p", task=task,
            version="20260101.1", deployment="d", image=IMAGE, payload={}, trace_id="0" * 32, lease=30,
            limits=TaskLimits(memory=memory, cpu=1, timeout=60, warm=True),
        )  # fmt: skip

    async def acquire(self, task: str = "t", memory: int = 100 * MIB, image: str = IMAGE) -> Container:
        key = ContainerKey("p", image, memory, 1.0, "none", (), "project", 128, 16 * MIB)
        container = await self.pool.acquire(self.assignment(task, memory), key)
        ready = SidecarEvent(seq=1, container=container.name, kind="ready", memory=20 * MIB)
        container.tell(ready)
        return container

    async def settled(self) -> None:
        """Until nothing is on its way out."""
        await eventually_async(lambda: all(c.state != "leaving" for c in self.pool), "removals to end")


@contextlib.asynccontextmanager
async def world(engine: FakeEngine, **settings: Any) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="smv") as directory:
        socket = Path(directory) / "sidecar.sock"
        server = Server(SidecarSettings(coordinator_url="http://127.0.0.1:9", control_socket=socket))
        await server.start()
        engine.images.add(IMAGE)
        client, clock = SidecarClient(socket), Clock()
        made = Settings(
            coordinator_url="http://127.0.0.1:9", key=SecretStr("k"), sidecar_socket=socket, state=Path(directory),
            **{"memory": 1000 * MIB, "slots": 8} | settings,
        )  # fmt: skip
        pool = Pool("r", made, engine, client, clock)
        try:
            yield World(engine, pool, clock, Path(directory) / "c")
            await pool.close()
            assert not engine.containers
            assert pool.used == 0
        finally:
            await client.close()
            await server.stop()


def run(engine: FakeEngine, test: Callable[[World], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        async with world(engine, **settings) as w:
            await asyncio.wait_for(test(w), 60)

    asyncio.run(main())


def test_a_clean_container_is_used_again() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        assert first.start == "cold"
        await w.pool.release(first, clean=True, memory=20 * MIB)
        second = await w.acquire()
        assert (second.name, second.start, second.runs) == (first.name, "warm", 2)

    run(FakeEngine(), test)


def test_a_run_waits_for_a_container_that_is_about_to_come_free() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        first.tell(SidecarEvent(seq=1, container=first.name, kind="ending", clean=True))
        second = asyncio.create_task(w.acquire())
        third = asyncio.create_task(w.acquire())  # one is promised: nobody else waits for it
        assert (await third).start == "cold"
        assert not second.done()
        await w.pool.release(first, clean=True, memory=20 * MIB)
        assert ((await second).name, (await second).start) == (first.name, "waited")

    run(FakeEngine(), test)


def test_a_container_that_does_not_come_free_in_time_is_not_waited_for() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        first.tell(SidecarEvent(seq=1, container=first.name, kind="ending", clean=True))
        assert (await w.acquire()).start == "cold"

    run(FakeEngine(), test)


@pytest.mark.parametrize(
    ("clean", "memory", "why"),
    [(False, 20 * MIB, "left something behind"), (True, None, "unknown memory"), (True, 29 * MIB, "grew")],
)
def test_a_container_that_is_not_as_new_is_not_used_again(clean: bool, memory: int | None, why: str) -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        await w.pool.release(first, clean=clean, memory=memory)
        assert (await w.acquire()).name != first.name, why

    run(FakeEngine(), test)


def test_a_container_is_replaced_after_its_runs_and_its_age() -> None:
    async def test(w: World) -> None:
        names = []
        for _ in range(4):
            container = await w.acquire()
            names.append(container.name)
            await w.pool.release(container, clean=True, memory=20 * MIB)
        assert names[0] == names[1] != names[2] == names[3]
        w.clock.now = 1000
        assert (await w.acquire()).name not in names

    run(FakeEngine(), test, max_runs=2, max_age=600, memory=150 * MIB)  # without room for a successor


def test_a_container_leaves_when_its_successor_stands_ready() -> None:
    async def test(w: World) -> None:
        names = []
        for _ in range(4):  # the successor is still starting: the old one serves on
            old = await w.acquire()
            names.append(old.name)
            await w.pool.release(old, clean=True, memory=20 * MIB)
        assert set(names) == {old.name}
        (fresh,) = [c for c in w.pool if c is not old]
        assert (fresh.state, fresh.runs, w.pool.used) == ("starting", 0, 200 * MIB)
        fresh.tell(SidecarEvent(seq=1, container=fresh.name, kind="ready", memory=20 * MIB))
        await eventually_async(lambda: fresh.state == "idle", "the successor")
        await w.settled()
        taken = await w.acquire()
        assert (taken, taken.start, len(list(w.pool))) == (fresh, "stem", 1)

    run(FakeEngine(), test, max_runs=2)


def test_who_waits_for_a_container_that_has_served_long_enough_has_it_once_more() -> None:
    async def test(w: World) -> None:
        old = await w.acquire()
        w.pool.hold(old)  # its run has ended, and it is being cleaned up
        waiting = asyncio.create_task(w.acquire())
        await eventually_async(lambda: w.pool._waiting, "the next run to wait for it")
        await w.pool.release(old, clean=True, memory=20 * MIB)
        taken = await waiting
        assert (taken, taken.start) == (old, "waited")
        (fresh,) = [c for c in w.pool if c is not old]
        assert (fresh.state, fresh.runs) == ("starting", 0)

    run(FakeEngine(), test, max_runs=1)


def test_a_successor_is_given_up_first_when_memory_is_wanted() -> None:
    async def test(w: World) -> None:
        old = await w.acquire(memory=400 * MIB)
        await w.pool.release(old, clean=True, memory=20 * MIB)
        (fresh,) = [c for c in w.pool if c is not old]
        other = await w.acquire("other", memory=300 * MIB)
        assert (fresh.state, other.start) == ("leaving", "cold")

    run(FakeEngine(), test, max_runs=1)


def test_idle_containers_leave_after_their_keep_alive() -> None:
    async def test(w: World) -> None:
        container = await w.acquire()
        await w.pool.release(container, clean=True, memory=20 * MIB)
        w.clock.now = 59
        await w.pool.expire()
        assert container.state == "idle"
        w.clock.now = 60
        await w.pool.expire()
        await w.settled()
        assert not w.engine.containers

    run(FakeEngine(), test, pool_rule="ttl")


def test_idle_containers_stay_for_as_long_as_nobody_wants_their_memory() -> None:
    async def test(w: World) -> None:
        container = await w.acquire(memory=600 * MIB)
        await w.pool.release(container, clean=True, memory=20 * MIB)
        w.clock.now = 599
        await w.pool.expire()
        assert container.state == "idle"
        await w.acquire("other", memory=700 * MIB)
        assert container.name not in w.engine.containers

    run(FakeEngine(), test)


def test_a_run_waits_for_one_that_is_expected_back_sooner_than_a_start_would_take() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        digest = first.key.digest
        for _ in range(20):
            w.pool._forecast.ran("t", 0.2)
            w.pool._forecast.started(digest, 30.0)
        first.state = "busy"
        waiting = asyncio.create_task(w.acquire())
        await eventually_async(lambda: w.pool._expected.waiting(digest) == 1, "the run to wait")
        # for the one that is busy there is one that waits: the next has its own started
        assert (await asyncio.wait_for(w.acquire(), 10)).start == "cold"
        assert not waiting.done()
        await w.pool.release(first, clean=True, memory=20 * MIB)
        assert ((await waiting).name, (await waiting).start) == (first.name, "waited")

    run(FakeEngine(), test)


def test_a_run_does_not_wait_for_one_that_takes_longer_than_a_start() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        for _ in range(20):
            w.pool._forecast.ran("t", 60.0)
            w.pool._forecast.started(first.key.digest, 0.5)
        first.state = "busy"
        assert (await asyncio.wait_for(w.acquire(), 10)).start == "cold"

    run(FakeEngine(), test)


def test_the_ledger_is_never_overdrawn_and_idle_ones_make_room() -> None:
    async def test(w: World) -> None:
        idle = await w.acquire("one", 600 * MIB)
        await w.pool.release(idle, clean=True, memory=20 * MIB)
        other = await w.acquire("two", 500 * MIB)
        assert idle.name not in w.engine.containers
        assert w.pool.used == 500 * MIB
        waiting = asyncio.create_task(w.acquire("three", 600 * MIB))
        await asyncio.wait({waiting}, timeout=0.05)
        assert not waiting.done()
        await w.pool.release(other, clean=False, memory=None)
        await asyncio.wait_for(waiting, 10)

    run(FakeEngine(), test)


def test_a_run_that_waits_for_a_start_takes_what_comes_free() -> None:
    async def test(w: World) -> None:
        first = await w.acquire(memory=600 * MIB)
        waiting = asyncio.create_task(w.acquire(memory=600 * MIB))
        await asyncio.wait({waiting}, timeout=0.05)
        await w.pool.release(first, clean=True, memory=20 * MIB)
        second = await asyncio.wait_for(waiting, 10)
        assert (second.name, second.start) == (first.name, "waited")

    run(FakeEngine(), test)


def test_a_failed_start_leaves_nothing_and_gives_its_slot_back() -> None:
    async def test(w: World) -> None:
        for _ in range(5):
            with pytest.raises(EngineError, match="no space left"):
                await asyncio.wait_for(w.acquire(), 10)
        await w.settled()
        assert w.pool.used == 0

    run(NeverStartsEngine(), test, starts=2)


def test_a_start_that_nobody_waits_for_any_more_is_undone() -> None:
    engine = SlowEngine()

    async def test(w: World) -> None:
        waiting = asyncio.create_task(w.acquire())
        await eventually_async(lambda: w.pool.used, "the start to begin")
        waiting.cancel()
        await asyncio.wait({waiting})
        assert w.pool.used == 100 * MIB
        engine.go.set()
        await eventually_async(lambda: w.pool.used == 0, "the container to be removed")
        assert not engine.containers

    run(engine, test)


def test_a_missing_image_is_told_as_such() -> None:
    async def test(w: World) -> None:
        with pytest.raises(ImageMissing):
            await w.acquire(image="samovar/tests:gone")

    run(FakeEngine(), test)


def test_memory_counts_until_the_engine_has_really_removed_the_container() -> None:
    async def test(w: World) -> None:
        container = await w.acquire(memory=600 * MIB)
        w.pool.destroy(container, "drained")
        assert w.pool.used == 600 * MIB
        await w.settled()
        assert w.pool.used == 0

    run(StuckRemovalEngine(), test)


def test_caps_send_the_surplus_away() -> None:
    async def test(w: World) -> None:
        containers = [await w.acquire() for _ in range(4)]
        for n, container in enumerate(containers):
            w.clock.now = n
            await w.pool.release(container, clean=True, memory=20 * MIB)
        await w.settled()
        assert set(w.engine.containers) == {c.name for c in containers[2:]}

    run(FakeEngine(), test, max_warm_per_task=2)


def test_the_short_way_takes_what_is_idle_but_not_past_a_run_that_waits() -> None:
    async def story() -> None:
        async with world(FakeEngine(), memory=200 * MIB) as w:
            key = ContainerKey("p", IMAGE, 100 * MIB, 1.0, "none", (), "project", 128, 16 * MIB)
            assert w.pool.take(w.assignment(), key) is None
            first, second = await w.acquire(), await w.acquire()
            await w.pool.release(first, clean=True, memory=20 * MIB)
            assert w.pool.take(w.assignment(), key) is first
            assert (first.start, first.state) == ("warm", "busy")
            waiting = asyncio.create_task(w.acquire())
            await eventually_async(lambda: w.pool._waiting == 1, "a run to wait for room")
            await w.pool.release(second, clean=True, memory=20 * MIB)
            assert w.pool.take(w.assignment(), key) is None
            assert await waiting is second
            await w.pool.release(first, clean=True, memory=20 * MIB)
            assert w.pool.take(w.assignment(), key) is first

    asyncio.run(story())


def placing(container: Container) -> tuple[str, str | None, str | None]:
    """How its run came to it: the start, the cause, and for whom the last one had left."""
    assert container.placing is not None
    by = container.placing.evicted_by
    return container.start, container.placing.cause, None if by is None else f"{by.project}/{by.task}"


def test_each_start_knows_its_cause() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        assert placing(first) == ("cold", "first", None)
        second = await w.acquire()
        assert placing(second) == ("cold", "parallel", None)
        await w.pool.release(first, clean=False, memory=None)
        await w.pool.release(second, clean=True, memory=40 * MIB)  # twice what it began with
        again = await w.acquire()
        assert placing(again) == ("cold", "leak", None)
        await w.pool.release(again, clean=True, memory=20 * MIB)
        assert placing(await w.acquire()) == ("warm", None, None)
        w.pool.destroy(again, "died")
        await w.pool.release(await w.acquire("other", 900 * MIB), clean=True, memory=20 * MIB)
        third = await w.acquire()  # for which the other has to leave, and then it for that one
        assert placing(third) == ("cold", "died", None)
        await w.pool.release(third, clean=True, memory=20 * MIB)
        other = await w.acquire("other", 950 * MIB)
        assert placing(other) == ("cold", "version", None)
        await w.pool.release(other, clean=True, memory=20 * MIB)
        assert placing(await w.acquire()) == ("cold", "evicted", "p/other")

    run(FakeEngine(), test)


def test_the_time_until_a_container_is_bound_counts_from_the_claim() -> None:
    async def test(w: World) -> None:
        key = ContainerKey("p", IMAGE, 100 * MIB, 1.0, "none", (), "project", 128, 16 * MIB)
        claimed = w.pool.now()
        w.clock.now = 2.5
        container = await w.pool.acquire(w.assignment(), key, claimed=claimed)
        assert container.placing is not None
        assert (container.placing.seconds, container.placing.number) == (2.5, 1)
        container.tell(SidecarEvent(seq=1, container=container.name, kind="ready", memory=20 * MIB))
        await w.pool.release(container, clean=True, memory=20 * MIB)
        taken = w.pool.take(w.assignment(), key, claimed=2.0)
        assert taken is container
        assert container.placing is not None
        assert (container.placing.seconds, container.placing.number) == (0.5, 2)

    run(FakeEngine(), test)


def test_what_may_not_be_kept_says_so_and_leaves_nothing_for_others_to_guess() -> None:
    async def test(w: World) -> None:
        key = ContainerKey("p", IMAGE, 100 * MIB, 1.0, "none", (), "project", 128, 16 * MIB)
        for _ in range(2):
            container = await w.pool.acquire(w.assignment(), key, fresh="not_kept")
            assert placing(container) == ("cold", "not_kept", None)
            await w.pool.release(container, clean=False, memory=None, why="not_kept")
        once = w.assignment("once")
        once.limits.warm = False
        await w.pool.acquire(once, key, fresh="not_kept")
        # a task with the same limits whose containers are kept has had none, and that one is none for it
        assert placing(await w.acquire("kept")) == ("cold", "first", None)

    run(FakeEngine(), test)


def test_containers_do_not_all_leave_at_one_age() -> None:
    async def test(w: World) -> None:
        idle = [await w.acquire(memory=10 * MIB) for _ in range(20)]
        for container in idle:
            await w.pool.release(container, clean=True, memory=20 * MIB)
        ages: dict[str, float] = {}
        for now in range(470, 601, 10):
            w.clock.now = float(now)
            await w.pool.expire()
            for container in idle:
                if container.state == "leaving":
                    ages.setdefault(container.name, w.clock.now)
        assert len(ages) == 20, "at its age the last one has left"
        assert min(ages.values()) >= 480, "none is more than a fifth younger"
        assert len(set(ages.values())) >= 5

    run(FakeEngine(), test, max_age=600, memory=200 * MIB, max_warm_per_task=50)  # no room for successors


def test_a_successor_whose_start_fails_is_gone_and_the_old_one_leaves_when_it_comes_back() -> None:
    class FailsLater(FakeEngine):
        failing = False

        def start(self, name: str) -> None:
            if self.failing:
                raise EngineError("no space left on device")
            super().start(name)

    engine = FailsLater()

    async def test(w: World) -> None:
        old = await w.acquire()
        engine.failing = True
        await w.pool.release(old, clean=True, memory=20 * MIB)  # has had its runs: one is started for its place
        await eventually_async(lambda: len(list(w.pool)) == 0, "both to be gone")
        assert w.pool.used == 0
        engine.failing = False
        assert placing(await w.acquire()) == ("cold", "limit", None)

    run(engine, test, max_runs=1)
