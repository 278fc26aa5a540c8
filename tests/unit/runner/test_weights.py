"""How processors are divided between projects."""

from __future__ import annotations

from coordinator.wire import Assignment, TaskLimits
from runner import weights
from runner.container import Container
from runner.spec import ContainerKey
from runner.weights import NORMAL, Weights

MIB = 1024**2


def busy(name: str, project: str, cpu: float = 1.0) -> Container:
    key = ContainerKey(project, "image", 64 * MIB, cpu, "none", (), "project", 128, 16 * MIB)
    container = Container(name, key, 0.0, state="busy")
    container.begun.set()
    container.assignment = Assignment(
        attempt=name, token=1, secret="s", run="r", number=1, project=project, task="t", version="20260101.1",
        deployment="d", image="image", payload={}, trace_id="0" * 32, lease=30,
        limits=TaskLimits(memory=64 * MIB, cpu=cpu, timeout=60, warm=True),
    )  # fmt: skip
    return container


def test_a_project_has_the_same_in_all_however_many_containers_it_has() -> None:
    many = [busy(f"a{n}", "a") for n in range(8)]
    due = Weights().due([*many, busy("b", "b")], 0.0)
    assert due == {f"a{n}": NORMAL // 8 for n in range(8)}


def test_within_a_project_it_goes_by_what_tasks_ask_for() -> None:
    due = Weights().due([busy("small", "a", 0.5), busy("large", "a", 3.5), busy("b", "b")], 0.0)
    assert due["large"] == NORMAL
    assert due["small"] == NORMAL // 8


def test_one_project_alone_has_all_of_them_as_before() -> None:
    known = Weights()
    assert known.due([busy(f"a{n}", "a", 2.0) for n in range(8)], 0.0) == {}
    other = busy("b", "b")
    containers = [busy(f"a{n}", "a", 2.0) for n in range(8)]
    assert known.due([*containers, other], 0.0) == {f"a{n}": NORMAL // 8 for n in range(8)}
    # and again when the other one has ended, for twice the while
    assert all(known.due(containers, 0.5 * tick) == {} for tick in range(39))
    assert known.due(containers, 20.0) == {f"a{n}": weights.of(2.0) for n in range(8)}
    assert known.due(containers, 20.5) == {}


def test_short_runs_are_no_reason_to_set_weights_again_and_again() -> None:
    """Whether a look finds a run of 15 ms is chance; of a flood it finds sometimes more and sometimes fewer."""
    known, other, flood = Weights(), busy("b", "b"), [busy(f"a{n}", "a") for n in range(6)]
    run, count = other.assignment, 0
    for tick in range(200):
        other.serving = 0.5 * tick
        other.assignment = run if tick % 3 == 0 else None
        for number, container in enumerate(flood):
            container.assignment = run if number <= tick % 6 else None
        count += len(known.due([*flood, other], 0.5 * tick))
    assert 0 < count <= 3 * len(flood)


def test_what_is_set_already_is_not_set_again() -> None:
    known, containers = Weights(), [busy(f"a{n}", "a") for n in range(6)]
    assert len(known.due([*containers, busy("b", "b")], 0.0)) == 6
    # one more or less is no reason to set all of them
    assert all(known.due([*containers[1:], busy("b", "b")], tick) == {} for tick in range(60))


def test_idle_and_leaving_containers_do_not_count() -> None:
    idle, leaving = busy("idle", "a"), busy("leaving", "a")
    idle.assignment, leaving.state = None, "leaving"
    assert Weights().due([idle, leaving, busy("b", "b"), busy("c", "c")], 0.0) == {}


def test_what_could_not_be_set_is_set_the_next_time() -> None:
    known, containers = Weights(), [busy("a0", "a"), busy("a1", "a"), busy("b", "b")]
    due = known.due(containers, 0.0)
    assert set(due) == {"a0", "a1"}
    known.failed("a0")
    assert set(known.due(containers, 0.5)) == {"a0"}


def test_nothing_is_kept_of_containers_that_are_gone() -> None:
    known = Weights()
    for n in range(100):
        known.due([busy(f"a{n}", "a"), busy(f"c{n}", "a"), busy("b", "b"), busy(f"d{n}", f"d{n}")], float(n))
    assert len(known._set) == 2
    assert len(known._seen) <= 13


def test_a_weight_is_one_that_the_kernel_takes() -> None:
    assert [weights.of(cpu) for cpu in (0.001, 0.01, 0.5, 1.0, 2.0, 3.0, 1000.0)] == [
        8, 8, 512, 1024, 2048, 4096, 16384,
    ]  # fmt: skip
