"""`samovar runs logs` for those lines that are looked for."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Hand, Install

LINES: list[dict[str, Any]] = [
    {"seq": 1, "message": "Starting", "level": "info"},
    {"seq": 2, "message": "select 1", "level": "debug", "stream": "logging", "logger": "app.db"},
    {"seq": 3, "message": "disk ALMOST full", "level": "warning", "stream": "stderr"},
    {"seq": 4, "message": "no disk", "level": "error", "stream": "logging", "logger": "app"},
]
FILTERS: list[tuple[list[str], list[int]]] = [
    ([], [1, 2, 3, 4]),
    (["--level", "warning"], [3, 4]),
    (["--grep", "DISK"], [3, 4]),
    (["--grep", "disk", "--stream", "stderr"], [3]),
    (["--logger", "app"], [2, 4]),
    (["--attempt", "1", "--logger", "app", "--level", "info"], [4]),
    (["--attempt", "2"], []),
]


@pytest.fixture
def run(install: Install, hand: Hand, project: Path) -> str:
    """A run that has written LINES and has ended."""
    install.samovar("deploy", str(project))
    hand.steps, hand.messages = LINES, []
    for _ in range(len(LINES) + 1):
        hand.go.release()
    return str(install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait")["id"])


def test_lines_that_fit_are_printed(install: Install, run: str) -> None:
    for options, expected in FILTERS:
        assert [line["seq"] for line in install.json("runs", "logs", run, *options)] == expected, options
        messages = [line["message"] for line in LINES if line["seq"] in expected]
        for how in ([], ["--follow"]):
            shown = install.samovar("runs", "logs", run, *options, *how).out.splitlines()
            assert len(shown) == len(messages), options
            assert all(text.endswith(message) for text, message in zip(shown, messages, strict=True)), options
    for how in ([], ["--follow"]):
        result = install.samovar("runs", "logs", run, "--level", "loud", *how, code=2)
        assert "level" in result.err
        assert "'critical'" in result.err


def test_what_is_looked_for_far_into_a_long_log_is_found(install: Install, run: str) -> None:
    """Beyond what one request looks at: a page that holds nothing is not the end."""
    rows = [(run, 1, seq, "needle" if seq == 25_000 else "hay") for seq in range(100, 25_001)]
    with sqlite3.connect(install.data / "coordinator.db", timeout=30) as database:
        database.executemany(
            "INSERT INTO log_lines (run_id, attempt, seq, at, level, stream, message)"
            " VALUES (?, ?, ?, 1.0, 'info', 'stdout', ?)",
            rows,
        )
    found = install.json("runs", "logs", run, "--grep", "NEEDLE")
    assert [(line["seq"], line["message"]) for line in found] == [(25_000, "needle")]


def test_the_lines_of_its_children_are_asked_for(install: Install, run: str) -> None:
    found = install.json("runs", "logs", run, "--children", "--level", "warning")
    assert [(line["run"], line["seq"]) for line in found] == [(run, 3), (run, 4)]
    for how in ([], ["--follow"]):
        shown = install.samovar("runs", "logs", run, "--children", *how).out.splitlines()
        assert len(shown) == len(LINES)
        assert all(text.startswith(f"{run} ") for text in shown)
