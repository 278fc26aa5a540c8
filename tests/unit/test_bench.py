"""The bench's arithmetic, its peers that need no engine, and its command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import claims, pool_replay, report, rivals, triggers
from bench.__main__ import BENCHMARKS, GROUPS, exit_code, main
from bench.figures import Outcome, Series, Target, rounds
from bench.peers import Sqlite, fork_and_answer
from bench.project import Project
from tests.conformance.databases import postgres_binaries

ROOT = Path(__file__).parents[2]


def outcome(value: float = 30.0, limit: float = 50.0) -> Outcome:
    return Outcome(
        "warm",
        "trigger → first line",
        [Series("first line", "ms", [value]), Series("result", "ms", [60.0])],
        [Series("exec", "ms", [10.0, 20.0, 30.0]), Series("whole", "ms", [30.0], against=1)],
        [Target("first line", value, limit, "ms")],
    )


def test_medians_and_percentiles() -> None:
    series = Series("x", "ms", [4.0, 1.0, 3.0, 2.0, 5.0])
    assert series.median == 3.0
    assert (series.percentile(0), series.percentile(50), series.percentile(100)) == (1.0, 3.0, 5.0)
    assert series.percentile(95) == pytest.approx(4.8)
    assert Series("one", "ms", [7.0]).percentile(99) == 7.0


def test_a_ratio_is_samovar_over_the_peer_it_is_compared_with() -> None:
    measured = outcome()
    assert [measured.ratio(peer) for peer in measured.peers] == [1.5, 2.0]
    assert measured.ratio(Series("nothing", "ms", [0.0])) is None


def test_a_target_is_a_limit_that_may_be_reached() -> None:
    assert outcome(50.0).met
    assert not outcome(50.1).met


@pytest.mark.parametrize(("value", "check", "code"), [(30.0, True, 0), (51.0, True, 1), (51.0, False, 0)])
def test_a_missed_target_fails_only_a_check(value: float, check: bool, code: int) -> None:
    assert exit_code([outcome(), outcome(value)], check=check) == code


def test_rounds_end_with_the_time_but_not_before_the_least() -> None:
    times = iter(range(100))
    assert list(rounds(50, 5.0, clock=lambda: float(next(times)))) == [0, 1, 2, 3, 4, 5, 6, 7]
    late = iter([0.0] + [1000.0] * 10)
    assert list(rounds(50, 5.0, clock=lambda: next(late))) == [0, 1, 2]
    assert list(rounds(4, 5.0, clock=lambda: 0.0)) == [0, 1, 2, 3]


def test_the_document_is_json_with_every_figure() -> None:
    document = json.loads(json.dumps(outcome(51.0).document()))
    assert [series["median"] for series in document["samovar"]] == [51.0, 60.0]
    assert document["peers"][0]["ratio"] == pytest.approx(2.55)
    assert document["targets"] == [{"name": "first line", "value": 51.0, "limit": 50.0, "unit": "ms", "met": False}]


def test_the_table_says_ratio_and_verdict() -> None:
    console = Console(record=True, width=110, file=open(os.devnull, "w"))  # noqa: SIM115
    report.show(console, outcome(51.0))
    text = console.export_text()
    console.file.close()
    assert "2.55x" in text
    assert "first line: 51.0 ms, at most 50: missed" in text


def test_the_floors_are_measured() -> None:
    assert 0 < fork_and_answer() < 60


def test_the_database_floor_commits(tmp_path: Path) -> None:
    sqlite = Sqlite(tmp_path / "peer.db")
    assert all(sqlite.commit() > 0 for _ in range(3))
    assert sqlite.count() == 3
    assert (tmp_path / "peer.db-wal").exists()
    sqlite.close()


def test_a_change_of_the_project_is_of_code_alone(tmp_path: Path) -> None:
    project = Project(tmp_path)
    before = {path.name: path.read_bytes() for path in project.path.iterdir()}
    project.change()
    after = {path.name: path.read_bytes() for path in project.path.iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["tasks.py"]
    compile(after["tasks.py"], "tasks.py", "exec")


def test_an_unknown_name_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cold", "lukewarm"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "'lukewarm' is no benchmark" in said
    assert all(name in said for name in BENCHMARKS)


def test_a_group_is_all_of_its_benchmarks() -> None:
    assert {name for names in GROUPS.values() for name in names} <= set(BENCHMARKS)
    assert not set(GROUPS) & set(BENCHMARKS)


def test_the_pools_rule_is_measured_against_others_of_the_same_memory() -> None:
    for outcome in pool_replay.outcomes(4):
        assert [peer.name for peer in outcome.peers] == ["lru-10min: mean delay", "lru-60s: mean delay"]
        assert outcome.targets[-1].met, "nothing is dropped of four tasks"


def test_every_benchmark_is_documented() -> None:
    text = (ROOT / "docs/reference/benchmarks.md").read_text()
    assert all(f"`{name}`" in text for name in BENCHMARKS)


def test_claims_are_measured_at_both_depths() -> None:
    if postgres_binaries() is None:
        pytest.skip("no PostgreSQL")
    measured = claims.claims(2, 1_100, claims.SHAPES[:2])
    assert [len(series.samples) for series in (*measured.samovar, *measured.peers)] == [2] * 4
    assert all(measured.ratio(peer) for peer in measured.peers)


def test_triggers_are_measured_against_a_real_coordinator() -> None:
    answers, claimed, floor = triggers.measure("SQLite", 8)
    assert (len(answers.samples), len(claimed.samples), len(floor.samples)) == (8, 2, 8)
    assert min(answers.samples) > 0


def test_a_peers_program_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_python", lambda: Path(sys.executable))
    assert "No module named 'dbos'" in rivals._run("dbos_steps.py", "sqlite://", 1)
