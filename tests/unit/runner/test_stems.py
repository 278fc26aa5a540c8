"""Containers that are started ahead of demand: wished for, met once, and given up before anything else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from coordinator.wire import ErrorBody, SidecarEvent
from runner.container import Container
from runner.spec import ContainerKey
from runner.stems import Stems
from tests.fakes import FakeEngine, SlowEngine
from tests.unit.runner.test_pool import IMAGE, MIB, Clock, World, placing, run
from tests.waiting import eventually_async

KEY = ContainerKey("p", IMAGE, 100 * MIB, 1.0, "none", (), "project", 128, 16 * MIB)


def test_a_wish_is_spread_met_once_and_over_in_its_time() -> None:
    clock = Clock(100.0)
    stems = Stems(clock, rng=lambda: 0.5)
    stems.wish("a", KEY, "t", within=30.0)
    stems.wish("a", KEY, "t", within=30.0)
    assert stems.due() == []
    clock.now = 100.5
    (wish,) = stems.due()
    assert (wish.id, wish.until) == ("a", 130.0)
    stems.met(wish)
    stems.wish("a", KEY, "t", within=30.0)  # the coordinator says it again with every heartbeat
    clock.now = 102.0
    assert stems.due() == []
    stems.wish("b", KEY, "t", within=10.0)
    clock.now = 112.0
    assert (stems.due(), stems._open) == ([], {})


def test_starts_beside_busy_ones_make_one_wish_at_a_time() -> None:
    clock = Clock()
    stems = Stems(clock, rng=lambda: 0.0)
    for _ in range(10):
        stems.after_start(KEY, "t")
    stems.after_start(replace(KEY, image="another"), "t")
    first, _ = stems.due()
    stems.met(first)
    stems.after_start(KEY, "t")
    assert len(stems.due()) == 2, "the next start makes another"


def test_what_is_remembered_is_bounded() -> None:
    stems = Stems(Clock(), rng=lambda: 0.0)
    for number in range(12_000):
        stems.ran(KEY, f"t{number}")
        stems.wish(f"w{number}", KEY, "t", 10.0)
        if number % 2:
            for wish in stems.due():
                stems.met(wish)
    assert (len(stems._ran), len(stems._met)) == (10_000, 1000)
    for number in range(500):
        stems.wish(f"v{number}", KEY, "t", 10.0)
    assert len(stems._open) == 200


def test_a_task_ran_lately_for_a_day() -> None:
    clock = Clock()
    stems = Stems(clock)
    assert not stems.lately(KEY, "t")
    stems.ran(KEY, "t")
    clock.now = 86400.0
    assert stems.lately(KEY, "t")
    assert not stems.lately(KEY, "t", other=True), "in this very version: there is nothing to prepare"
    assert stems.lately(replace(KEY, image="another"), "t", other=True)
    clock.now = 86401.0
    assert not stems.lately(KEY, "t")


# ---------------------------------------------------------------- in the pool


def only(w: World) -> Container:
    (container,) = w.pool
    return container


def ready(container: Container) -> None:
    container.tell(SidecarEvent(seq=1, container=container.name, kind="ready", memory=20 * MIB))


async def stem(w: World, key: ContainerKey = KEY, *, id: str = "w", supersedes: bool = False) -> Container:
    """One that has been wished for, and stands ready."""
    before = set(w.pool)
    w.pool.stems.wish(id, key, "t", 60.0, supersedes=supersedes)
    w.clock.now += 2.0
    await w.pool.expire()
    (made,) = set(w.pool) - before
    ready(made)
    await eventually_async(lambda: made.state == "idle", "the stem to stand ready")
    return made


def test_a_stem_stands_ready_and_is_taken_as_one() -> None:
    async def test(w: World) -> None:
        made = await stem(w)
        assert (made.prepared, made.runs, made.unused) == ("stem", 0, True)
        taken = await w.acquire()
        assert (taken, *placing(taken)) == (made, "stem", None, None)
        await w.pool.release(taken, clean=True, memory=20 * MIB)
        assert placing(await w.acquire()) == ("warm", None, None), "used once, it is a warm one"

    run(FakeEngine(), test)


def test_where_one_of_its_kind_is_idle_a_stem_is_not_wanted() -> None:
    async def test(w: World) -> None:
        idle = await w.acquire()
        await w.pool.release(idle, clean=True, memory=20 * MIB)
        w.pool.stems.wish("w", KEY, "t", 60.0)
        w.clock.now += 2.0
        await w.pool.expire()
        assert only(w) is idle
        assert w.pool.stems.due() == []

    run(FakeEngine(), test)


def test_a_cold_start_beside_busy_ones_is_followed_by_a_stem() -> None:
    async def test(w: World) -> None:
        first = await w.acquire()
        first.state = "busy"
        w.clock.now += 2.0
        await eventually_async(lambda: w.pool._starts.quiet, "the start to be over")
        await w.pool.expire()
        assert only(w) is first, "the first of a task makes no wish"
        second = await w.acquire()
        second.state = "busy"
        await eventually_async(lambda: w.pool._starts.quiet, "the start to be over")
        w.clock.now += 2.0
        await w.pool.expire()
        (made,) = set(w.pool) - {first, second}
        assert (made.prepared, made.task, made.key) == ("stem", "t", first.key)

    run(FakeEngine(), test)


def test_stems_are_capped_one_after_the_other_and_can_be_switched_off() -> None:
    async def story(w: World) -> None:
        for number in range(5):
            w.pool.stems.wish(f"w{number}", replace(KEY, image=f"{IMAGE}-{number}"), f"t{number}", 600.0)
            w.engine.images.add(f"{IMAGE}-{number}")
        w.clock.now += 2.0
        for _ in range(5):
            await w.pool.expire()
            await w.pool.expire()
            starting = [c for c in w.pool if c.state == "starting"]
            assert len(starting) <= 1, "one at a time"
            for container in starting:
                ready(container)
                await eventually_async(lambda c=container: c.state == "idle", "it to be ready")  # type: ignore[misc]
        assert len(list(w.pool)) == w.pool._settings.stems

    run(FakeEngine(), story, stems=2)
    run(FakeEngine(), story, stems=0)


def test_a_stem_never_takes_what_a_run_could_want() -> None:
    async def test(w: World) -> None:
        big = await w.acquire("big", memory=850 * MIB)
        big.state = "busy"
        await eventually_async(lambda: w.pool._starts.quiet, "the start to be over")
        w.pool.stems.wish("w", replace(KEY, memory=200 * MIB), "t", 600.0)
        w.pool.stems.wish("v", KEY, "t", 600.0)
        w.clock.now += 2.0
        waiting = asyncio.create_task(w.acquire("other", memory=500 * MIB))
        await eventually_async(lambda: w.pool._waiting == 1, "a run to wait for room")
        await w.pool.expire()
        assert only(w) is big, "a run waits: nothing is prepared, though it would fit"
        await w.pool.release(big, clean=False, memory=None)
        other = await waiting
        await w.pool.expire()
        assert {c.prepared for c in w.pool} == {None}, "a start is under way"
        ready(other)
        await eventually_async(lambda: w.pool._starts.quiet, "the start to be over")
        await w.settled()
        await w.pool.expire()
        assert [c.key.memory for c in w.pool if c.prepared] == [200 * MIB]
        assert w.pool.used <= 1000 * MIB

    run(FakeEngine(), test)


def test_a_stem_is_given_up_before_a_container_that_has_served() -> None:
    async def test(w: World) -> None:
        used = await w.acquire("used", memory=300 * MIB)
        await w.pool.release(used, clean=True, memory=20 * MIB)
        await eventually_async(lambda: w.pool._starts.quiet, "the start to be over")
        made = await stem(w, replace(KEY, memory=350 * MIB))
        await w.acquire("wants room", memory=500 * MIB)
        assert (made.state, used.state) == ("leaving", "idle")
        (life,) = w.pool.lives.untold()
        assert (life.container, life.why, life.by and life.by.task, life.runs) == (
            made.name,
            "evicted",
            "wants room",
            0,
        )

    run(FakeEngine(), test)


def test_no_start_waits_for_the_slot_of_a_stem() -> None:
    engine = SlowEngine()

    async def test(w: World) -> None:
        w.pool.stems.wish("w", KEY, "t", 600.0)
        w.clock.now += 2.0
        await w.pool.expire()
        assert only(w).prepared == "stem"
        assert w.pool._starts.quiet, "it holds none, while the engine takes its time"
        other = asyncio.create_task(w.acquire("other", memory=50 * MIB))
        await eventually_async(lambda: len(list(w.pool)) == 2, "the run's own start")
        engine.go.set()
        assert placing(await other)[0] == "cold"

    run(engine, test, starts=1)


def test_a_run_waits_for_a_stem_that_is_being_started_for_its_kind() -> None:
    async def test(w: World) -> None:
        for _ in range(20):
            w.pool._forecast.started(KEY.digest, 30.0)
        w.pool.stems.wish("w", KEY, "t", 600.0)
        w.clock.now += 2.0
        await w.pool.expire()
        made = only(w)
        waiting = asyncio.create_task(w.acquire())
        await eventually_async(lambda: w.pool._expected.waiting(KEY.digest) == 1, "the run to wait")
        # for the second there is none: it has its own started
        assert placing(await w.acquire())[:2] == ("cold", "parallel")
        ready(made)
        assert placing(await waiting) == ("stem", None, None)

    run(FakeEngine(), test)


def test_the_stem_of_a_new_version_takes_the_place_of_the_old_ones() -> None:
    async def test(w: World) -> None:
        old, other = await w.acquire(), await w.acquire("another task")
        for container in (old, other):
            await w.pool.release(container, clean=True, memory=20 * MIB)
        await eventually_async(lambda: w.pool._starts.quiet, "the starts to be over")
        new = replace(KEY, image=f"{IMAGE}-2")
        w.engine.images.add(new.image)
        made = await stem(w, new, supersedes=True)
        await eventually_async(lambda: old.state == "leaving", "the old one to leave")
        assert (made.state, other.state) == ("idle", "idle")
        assert [life.why for life in w.pool.lives.untold()] == ["superseded"]

        # another task of the deploy finds its container there already, and has no less from it
        w.pool.stems.wish("another", new, "another task", 60.0, supersedes=True)
        w.clock.now += 2.0
        await w.pool.expire()
        await eventually_async(lambda: other.state == "leaving", "the other's to leave")
        assert made.state == "idle"

    run(FakeEngine(), test)


def test_a_version_that_cannot_be_imported_takes_no_place() -> None:
    async def test(w: World) -> None:
        old = await w.acquire()
        await w.pool.release(old, clean=True, memory=20 * MIB)
        await eventually_async(lambda: w.pool._starts.quiet, "the starts to be over")
        new = replace(KEY, image=f"{IMAGE}-2")
        w.engine.images.add(new.image)
        for task in ("t", "u"):
            w.pool.stems.wish(task, new, task, 60.0, supersedes=True)
        w.clock.now += 2.0
        await w.pool.expire()
        (made,) = set(w.pool) - {old}
        error = ErrorBody(type="ImportError", message="no module")
        made.tell(SidecarEvent(seq=1, container=made.name, kind="ready", error=error))
        await eventually_async(lambda: made.state == "leaving", "the new one to leave")
        assert old.state == "idle"

    run(FakeEngine(), test)


def test_a_stem_that_others_have_overtaken_leaves_and_none_of_them_for_it() -> None:
    async def test(w: World) -> None:
        w.pool.stems.wish("w", KEY, "t", 600.0)
        w.clock.now += 2.0
        await w.pool.expire()
        made = only(w)
        served = await w.acquire(memory=50 * MIB)  # of the same task with other limits: the one that is kept of it
        await w.pool.release(served, clean=True, memory=20 * MIB)
        ready(made)
        await eventually_async(lambda: made.state == "leaving", "the stem to leave")
        assert served.state == "idle"

    run(FakeEngine(), test, max_warm_per_task=1)


def test_a_stem_whose_modules_cannot_be_imported_is_not_started_again() -> None:
    async def test(w: World) -> None:
        w.pool.stems.wish("w", KEY, "t", 600.0)
        w.clock.now += 2.0
        await w.pool.expire()
        made = only(w)
        error = ErrorBody(type="ImportError", message="no module")
        made.tell(SidecarEvent(seq=1, container=made.name, kind="ready", error=error))
        await eventually_async(lambda: not list(w.pool), "it to be gone")
        w.pool.stems.wish("w", KEY, "t", 600.0)
        w.clock.now += 2.0
        await w.pool.expire()
        assert not list(w.pool)
        assert [life.why for life in w.pool.lives.untold()] == ["failed"]

    run(FakeEngine(), test)
