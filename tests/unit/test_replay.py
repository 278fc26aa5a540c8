"""The replay of the pool's policy, and what it reads."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench import plot, traces
from bench.pool_replay import SETUPS, replay
from bench.traces import MIB
from coordinator.keeping.replay import Call, Replay, Setup, Task


def figures(setup: Setup, memory: int, calls: list[Call]) -> dict[str, float]:
    return Replay(setup, memory).run(calls).summary()


def named(name: str) -> Setup:
    return next(setup for setup in SETUPS if setup.name == name)


def test_a_trace_is_the_same_for_the_same_seed() -> None:
    one, other = (traces.made_up(7, 10, 3600) for _ in range(2))
    assert one == other != traces.made_up(8, 10, 3600)
    assert one == sorted(one, key=lambda call: call.at)


def test_a_container_that_stands_ready_costs_nothing_and_another_one_its_start() -> None:
    task = Task("t", 100 * MIB, 2.0)
    calls = [Call(0.0, task, 1.0), Call(10.0, task, 1.0), Call(10.5, task, 1.0)]
    found = figures(named("lru"), 1000 * MIB, calls)
    assert (found["runs"], round(found["cold_ratio"] * 3), round(found["mean_delay_ms"] * 3)) == (3, 2, 2 * 2000)


def test_ttl_ends_what_was_idle_for_its_time() -> None:
    task = Task("t", 100 * MIB, 2.0)
    calls = [Call(at, task, 1.0) for at in (0.0, 30.0, 200.0)]
    assert round(figures(named("lru-60s"), 1000 * MIB, calls)["cold_ratio"] * 3) == 2
    assert round(figures(named("lru-10min"), 1000 * MIB, calls)["cold_ratio"] * 3) == 1


def test_what_no_memory_is_enough_for_is_dropped_and_counted() -> None:
    large, small = Task("large", 2000 * MIB, 1.0), Task("small", 10 * MIB, 1.0)
    found = figures(named("greedy-dual + wait"), 1000 * MIB, [Call(0.0, large, 1.0), Call(1.0, small, 1.0)])
    assert (found["dropped"], found["runs"]) == (1, 2)


def test_every_run_is_begun_once_by_every_policy() -> None:
    calls = traces.made_up(3, 20, 1800)
    for row in replay(calls, [256 * MIB * 8]):
        assert (row["runs"], row["dropped"]) == (len(calls), 0)


def test_the_default_is_better_than_what_it_took_the_place_of() -> None:
    calls = traces.made_up(1, 80, 7200)
    delays = {str(row["policy"]): float(str(row["mean_delay_ms"])) for row in replay(calls, [6 * 1024 * MIB])}
    assert delays["greedy-dual + wait"] < delays["greedy-dual"] < delays["lru-60s"]
    assert delays["greedy-dual + wait"] < delays["lru + wait"] < delays["lru-10min"]


def test_the_trace_of_2019_is_read(tmp_path: Path) -> None:
    minutes = ",".join(str(n) for n in range(1, 1441))
    counts = ",".join("2" if n == 3 else "0" for n in range(1, 1441))
    (tmp_path / "invocations_per_function_md.anon.d01.csv").write_text(
        f"HashOwner,HashApp,HashFunction,Trigger,{minutes}\no,a,f,http,{counts}\no,a,unknown,http,{counts}\n"
    )
    (tmp_path / "function_durations_percentiles.anon.d01.csv").write_text(
        "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum\no,a,f,1500,2,1,2\n"
    )
    (tmp_path / "app_memory_percentiles.anon.d01.csv").write_text(
        "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,5,200\n"
    )
    calls = traces.azure_2019(tmp_path)
    assert [(call.at, call.task.name, call.seconds) for call in calls] == [(135.0, "f", 1.5), (165.0, "f", 1.5)]
    assert calls[0].task.memory == 256 * MIB


def test_the_trace_of_2021_is_read(tmp_path: Path) -> None:
    file = tmp_path / "trace.txt"
    file.write_text("app,func,end_timestamp,duration\na,f,12.5,2.5\na,f,3,1\n")
    assert [(call.at, call.seconds) for call in traces.azure_2021(file)] == [(2.0, 1.0), (10.0, 2.5)]


def test_the_curves_are_well_formed() -> None:
    rows = replay(traces.made_up(3, 8, 900), [512 * MIB, 1024 * MIB])
    tree = ElementTree.fromstring(plot.lines(rows))
    assert len(tree.findall("{http://www.w3.org/2000/svg}polyline")) == 2 * len(SETUPS)
