"""Whose container starts next."""

from __future__ import annotations

import asyncio

import pytest
from samovar import wire

from coordinator.keeping.warm import STARTS
from coordinator.wire import SidecarEvent
from runner import pool
from runner.container import Container, Died, EndAsked
from runner.settings import Settings
from runner.spec import ContainerKey
from runner.starts import Starts
from tests.fakes import FakeEngine
from tests.unit.runner.test_pool import IMAGE, MIB, Clock, World, run
from tests.waiting import eventually_async


def fits(memory: int) -> bool:
    return True


def started(starts: Starts, *waiters: object) -> list[str]:
    """The projects of the next starts, each of which ends at once."""
    left, order = list(waiters), []
    while left:
        one = next(w for w in left if starts.is_next(w, fits))  # type: ignore[arg-type]
        left.remove(one)
        starts.leave(one)  # type: ignore[arg-type]
        order.append(one.project)  # type: ignore[attr-defined]
        starts.begin(order[-1])
        starts.end(order[-1])
    return order


def test_projects_take_turns_whoever_came_first() -> None:
    starts = Starts(3, Clock())
    crowd = [starts.wait("crowd", 1) for _ in range(5)]
    others = [starts.wait("one", 1), starts.wait("two", 1), starts.wait("one", 1)]
    assert started(starts, *crowd, *others) == ["crowd", "one", "two", "crowd", "one", *["crowd"] * 3]


def test_a_project_has_a_share_of_the_slots_and_others_the_rest() -> None:
    starts = Starts(3, Clock())
    for _ in range(2):
        starts.begin("crowd")
    crowd, other = starts.wait("crowd", 1), starts.wait("other", 1)
    assert not starts.is_next(crowd, fits)
    assert starts.is_next(other, fits)
    starts.begin("other")
    assert not starts.is_next(other, fits)  # no slot is left
    starts.end("crowd")
    starts.leave(other)
    assert starts.is_next(crowd, fits)


def test_one_slot_is_everybodys() -> None:
    starts = Starts(1, Clock())
    waiter = starts.wait("p", 1)
    assert starts.is_next(waiter, fits)


def test_who_waits_for_memory_holds_up_nobody_who_fits() -> None:
    starts = Starts(3, Clock())
    large, small = starts.wait("large", 100), starts.wait("small", 1)
    assert starts.is_next(small, lambda memory: memory < 50)
    starts.leave(small)
    assert starts.is_next(large, lambda memory: memory < 50)  # and makes room for itself


def test_a_project_whose_containers_die_at_start_waits_longer_each_time() -> None:
    clock = Clock()
    starts = Starts(3, clock)
    pauses = []
    for _ in range(8):
        starts.failed("bad")
        pauses.append(starts.pause("bad"))
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
    bad, good = starts.wait("bad", 1), starts.wait("good", 1)
    assert not starts.is_next(bad, fits)
    assert starts.is_next(good, fits)
    starts.leave(good)
    clock.now += 30
    assert starts.is_next(bad, fits)
    starts.succeeded("bad")
    starts.failed("bad")
    assert starts.pause("bad") == 0


def test_a_flood_of_projects_is_not_remembered_without_end() -> None:
    starts = Starts(3, Clock())
    for number in range(10_100):
        starts.failed(f"p{number}")
        starts.begin(f"p{number}")
        starts.end(f"p{number}")
    assert len(starts._turns) == len(starts._failures) == 10_000


# ---------------------------------------------------------------- in the pool


def silent(w: World, project: str) -> asyncio.Task[Container]:
    """A run of a project whose process 1 says nothing."""
    key = ContainerKey(project, IMAGE, 10 * MIB, 1.0, "none", (), "project", 128, 16 * MIB)
    return asyncio.create_task(w.pool.acquire(w.assignment(), key, fresh="not_kept"))


def say(container: Container, kind: str) -> None:
    container.tell(SidecarEvent(seq=1, container=container.name, kind=kind, memory=MIB))  # type: ignore[arg-type]


async def hear(w: World) -> None:
    """Hands the sidecar's events to their containers, as the agent does."""
    sidecar, boot = w.pool._sidecar, ""
    while True:
        heard = await sidecar.events(boot)
        boot = heard.boot
        for event in heard.events:
            if (container := w.pool.get(event.container)) is not None:
                container.tell(event)
        sidecar.seen(heard)


def test_the_slot_comes_back_when_process_1_has_connected_not_when_the_imports_are_done() -> None:
    async def test(w: World) -> None:
        hearing = asyncio.create_task(hear(w))
        first = [await silent(w, "slow") for _ in range(STARTS - 1)]
        one_more = silent(w, "slow")
        await asyncio.wait({one_more}, timeout=0.05)
        assert not one_more.done()
        _, writer = await asyncio.open_unix_connection(w.sockets / first[0].name / wire.SOCKET_NAME)
        writer.write(wire.encode({"id": 1, "type": "hello", "protocol": wire.PROTOCOL, "attempt": None}))
        # and nothing more: the modules take their time
        await asyncio.wait_for(one_more, 10)
        writer.close()
        hearing.cancel()

    run(FakeEngine(), test, connect_timeout=600)


def test_a_process_1_that_never_connects_holds_up_its_own_project_alone() -> None:
    async def test(w: World) -> None:
        for _ in range(STARTS - 1):
            await silent(w, "hostile")
        more = [silent(w, "hostile") for _ in range(4)]
        await asyncio.wait_for(silent(w, "other"), 10)
        assert not any(task.done() for task in more)
        for task in more:
            task.cancel()
        await asyncio.wait(more)

    run(FakeEngine(), test, connect_timeout=600)


def test_a_slot_is_not_held_for_long_by_one_that_never_connects() -> None:
    async def test(w: World) -> None:
        for _ in range(3):
            await asyncio.wait_for(silent(w, "hostile"), 10)

    run(FakeEngine(), test, starts=2, connect_timeout=0.05)


@pytest.mark.parametrize("asked", [False, True])
def test_containers_that_die_at_start_are_followed_by_a_pause_unless_somebody_ended_them(asked: bool) -> None:
    async def test(w: World) -> None:
        for _ in range(2):
            container = await silent(w, "p")
            say(container, "extended")  # whatever it is, it has connected
            if asked:
                container.tell(EndAsked("a"))
            container.tell(Died())
            await eventually_async(lambda c=container: c.settled.is_set(), "it to be settled")  # type: ignore[misc]
            w.pool.destroy(container, "died")
            await w.settled()
        await eventually_async(lambda: bool(w.pool._starts.pause("p")) != asked, "the account of it")
        third = silent(w, "p")
        await asyncio.wait({third}, timeout=0.05)
        assert third.done() == asked
        third.cancel()
        await asyncio.wait({third})

    run(FakeEngine(), test)


def test_by_default_one_project_leaves_a_slot() -> None:
    usual = Settings.model_fields["starts"].default
    starts = Starts(usual, Clock())
    for _ in range(usual - 1):
        starts.begin("p")
    assert not starts.is_next(starts.wait("p", 1), fits)
    assert starts.is_next(starts.wait("other", 1), fits)


# ---------------------------------------------------------------- and who leaves meanwhile


def leave(w: World, container: Container, *, at_leisure: bool = True) -> None:
    w.pool.destroy(container, "not_kept", at_leisure=at_leisure)


async def busy_starting(w: World) -> tuple[Container, Container]:
    """One whose run has ended, and one that is being started."""
    return await w.acquire(), await silent(w, "p")


def test_what_leaves_at_leisure_is_removed_when_nothing_is_being_started() -> None:
    async def test(w: World) -> None:
        old, new = await busy_starting(w)
        other = await w.acquire()
        leave(w, old)
        leave(w, other, at_leisure=False)
        await eventually_async(lambda: other.name not in w.engine.containers, "the other one to be removed")
        assert old.name in w.engine.containers
        say(new, "connected")
        await w.settled()
        assert set(w.engine.containers) == {new.name}

    run(FakeEngine(), test, connect_timeout=600)


def test_what_has_to_go_does_not_wait_for_starts() -> None:
    async def test(w: World) -> None:
        old, new = await busy_starting(w)
        leave(w, old, at_leisure=False)
        await w.settled()
        assert set(w.engine.containers) == {new.name}

    run(FakeEngine(), test, connect_timeout=600)


def test_what_leaves_at_leisure_goes_where_a_start_waits_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_STANDS_BACK", 600)

    async def test(w: World) -> None:
        old, new = await busy_starting(w)
        leave(w, old)
        third = await asyncio.wait_for(w.acquire("other", memory=950 * MIB), 10)
        assert set(w.engine.containers) == {new.name, third.name}

    run(FakeEngine(), test, connect_timeout=600)


def test_what_leaves_at_leisure_is_gone_in_time_though_starts_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_STANDS_BACK", 0.05)

    async def test(w: World) -> None:
        old, new = await busy_starting(w)
        leave(w, old)
        await w.settled()
        assert set(w.engine.containers) == {new.name}

    run(FakeEngine(), test, connect_timeout=600)
