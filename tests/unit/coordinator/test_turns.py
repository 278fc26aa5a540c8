"""Lines for the database's threads: each has its share of them, and of their time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from coordinator.foundation.turns import OWN, Turns
from tests.waiting import eventually


def test_a_full_line_holds_up_neither_others_nor_our_own() -> None:
    turns = Turns(4, "test", kept=1)
    hold = threading.Event()
    held = [turns.submit(lambda: hold.wait(30), "hog") for _ in range(50)]
    assert turns.submit(lambda: "other", "other").result(10) == "other"
    assert turns.submit(lambda: "own", OWN).result(10) == "own"
    more = [turns.submit(lambda: hold.wait(30), f"hog{n}") for n in range(20)]
    assert turns.submit(lambda: "own", OWN).result(10) == "own"
    hold.set()
    assert all(future.result(30) for future in [*held, *more])
    turns.shutdown()


def test_one_thread_takes_lines_in_turns_and_ours_every_other_time() -> None:
    turns = Turns(1, "test", clock=lambda: 0.0)
    begun, hold = threading.Event(), threading.Event()
    order: list[str] = []
    first = turns.submit(lambda: (begun.set(), hold.wait(30)), "a")
    assert begun.wait(30)
    for n in range(3):
        for line in ("a", "b"):
            turns.submit(lambda name=f"{line}{n}": order.append(name), line)
    last = [turns.submit(lambda name=f"own{n}": order.append(name), OWN) for n in range(3)]
    hold.set()
    first.result(30)
    turns.shutdown()
    assert all(future.done() for future in last)
    assert [name for name in order if name.startswith("a")] == ["a0", "a1", "a2"]
    assert order[:6:2] == ["own0", "own1", "own2"]
    assert {name[0] for name in order[1:4:2]} == {"a", "b"}


class Clock:
    """Time that passes where work says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def served(clock: Clock, *asked: Sequence[tuple[str, float]]) -> list[str]:
    """The lines in the order in which one thread serves them: of each (line, seconds of its work).

    Each of `asked` is asked when all before it is done.
    """
    turns = Turns(1, "test", clock=clock)
    order: list[str] = []
    for calls in asked:
        begun, hold = threading.Event(), threading.Event()
        turns.submit(lambda begun=begun, hold=hold: (begun.set(), hold.wait(30)), OWN)  # type: ignore[misc]
        assert begun.wait(30)
        done = []
        for line, seconds in calls:

            def work(line: str = line, seconds: float = seconds) -> None:
                order.append(line)
                clock.now += seconds

            done.append(turns.submit(work, line))
        hold.set()
        for future in done:
            future.result(30)
    turns.shutdown()
    return order


def test_what_is_long_costs_its_line_as_many_turns() -> None:
    order = served(Clock(), [*[("hog", 0.1)] * 4, *[("other", 0.01)] * 30])
    between = "".join("h" if line == "hog" else "o" for line in order).split("h")
    assert [len(part) for part in between[1:-1]] == [10, 10, 10]


def test_who_asks_for_little_goes_before_who_asked_for_much() -> None:
    clock = Clock()
    # the hog's first one is in progress when the others come
    order = served(clock, [("hog", 0.1), ("hog", 0.1), ("hog", 0.1)], [*[("hog", 0.1)] * 3, ("quiet", 0.01)])
    assert order[3:] == ["quiet", "hog", "hog", "hog"]


def test_nobody_saves_up_turns_while_others_work() -> None:
    clock = Clock()
    order = served(clock, [("late", 0.01)], [("hog", 0.01)] * 50, [*[("hog", 0.01)] * 5, *[("late", 0.01)] * 5])
    # one turn more at the most, for the one that was served last
    assert "late late late" not in " ".join(order[51:58])


def test_the_time_of_lines_that_are_gone_is_let_go_of() -> None:
    turns = Turns(1, "test", clock=lambda: 0.0)
    for n in range(2500):
        turns.submit(lambda: None, f"line{n}").result(30)
    assert len(turns._given) < 1100
    turns.shutdown()


def idle(turns: Turns, count: int) -> None:
    """Returns when so many threads have nothing to do."""
    eventually(lambda: len(turns._idle) == count, f"{count} idle threads")


def test_who_worked_last_works_next_and_the_others_sleep() -> None:
    """What one has at hand, another would have to fetch; and to be woken in vain costs as much as to work."""
    turns = Turns(4, "test")
    hold = threading.Barrier(4)
    for future in [turns.submit(lambda: hold.wait(30), f"line{n}") for n in range(2)]:
        assert not future.done()
    for future in [turns.submit(lambda: hold.wait(30), OWN) for n in range(2)]:
        future.result(30)
    idle(turns, 4)
    last = turns._idle[-1]
    looks = count_looks(turns)
    seen = set()
    for _ in range(20):
        seen.add(turns.submit(threading.get_ident, "line").result(10))
        idle(turns, 4)
        assert turns._idle[-1] is last
    assert len(seen) == 1
    # one that takes the work, and one by the same thread that finds no more
    assert looks() == 40
    turns.shutdown()


def count_looks(turns: Turns) -> Callable[[], int]:
    """How often a thread looks for work from now on."""
    looked: list[str | None] = []
    found = turns._next

    def watched() -> str | None:
        looked.append(line := found())
        return line

    turns._next = watched  # type: ignore[method-assign]
    return lambda: len(looked)


def test_no_more_threads_are_made_than_have_work_at_once() -> None:
    turns = Turns(8, "test")
    for _ in range(20):
        turns.submit(lambda: None, "line").result(10)
        idle(turns, 1)
    assert len(turns._threads) == 1
    turns.shutdown()


def test_work_that_comes_from_many_at_once_is_all_done_and_a_shutdown_leaves_none() -> None:
    for _ in range(20):
        turns = Turns(3, "test", share=1)
        done: list[int] = []

        def ask(turns: Turns = turns, done: list[int] = done) -> None:
            for n in range(50):
                turns.submit(lambda n=n: done.append(n), f"line{n % 5}")  # type: ignore[misc]

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(30)
        turns.shutdown()
        assert len(done) == 200
        assert not any(thread.is_alive() for thread in turns._threads)
