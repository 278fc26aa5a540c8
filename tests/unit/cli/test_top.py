"""`samovar top`: what a frame shows of what the API says, and what becomes of the terminal."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from samovar.cli import text as texts
from samovar.cli.top_frame import cut, frame, plain, width

from tests.terminal import terminal
from tests.unit.cli.conftest import Hand, Install
from tests.waiting import eventually

MIB = 1024**2
#: What the API of an install answered, cut to what is read of it.
SEEN: dict[str, Any] = {
    "at": "2026-01-31T12:00:00.000Z",
    "url": "http://127.0.0.1:8020",
    "hosts": [
        {"runner": "alpha", "alive": True, "drained_at": None, "revoked_at": None, "attempts": 2},
        {"runner": "beta", "alive": True, "drained_at": "2026-01-31T11:00:00.000Z", "revoked_at": None},
        {"runner": "gone", "alive": False, "drained_at": None, "revoked_at": None, "attempts": 0},
    ],
    "runners": [
        {
            "runner": "alpha",
            "memory": 8192 * MIB,
            "used": 4096 * MIB,
            "slots": 100,
            "containers": [
                {"state": "busy", "memory": 512 * MIB, "prepared": False},
                {"state": "busy", "memory": 512 * MIB, "prepared": False},
                {"state": "idle", "memory": 512 * MIB, "prepared": False},
                {"state": "idle", "memory": 512 * MIB, "prepared": True},
                {"state": "starting", "memory": 512 * MIB, "prepared": False},
            ],
        },
        {"runner": "beta", "memory": 4096 * MIB, "used": 4096 * MIB, "slots": 10, "containers": []},
    ],
    "queues": [
        {"project": "orders", "name": "reports", "concurrency": 2, "running": 2, "queued": 40, "paused": False},
        {"project": "orders", "name": "task/pay", "concurrency": None, "running": 1, "queued": 0, "paused": False},
        {"project": "prices", "name": "slow", "concurrency": 5, "running": 0, "queued": 3, "paused": True},
        {"project": "prices", "name": "empty", "concurrency": 5, "running": 0, "queued": 0, "paused": False},
    ],
    "running": [
        {
            "id": "run_01m8kprppnxj3yxv1exkmhv73j",
            "project": "orders",
            "task": "report",
            "status": "running",
            "created_at": "2026-01-31T11:00:00.000Z",
            "started_at": "2026-01-31T11:59:30.000Z",
            "progress": {"fraction": 0.42, "message": "reading"},
        }
    ],
    "newest": [
        {
            "id": "run_01m8kprppnxj3yxv1exkmhv73k",
            "project": "orders",
            "task": "pay",
            "status": "failed",
            "created_at": "2026-01-31T11:50:00.000Z",
            "started_at": "2026-01-31T11:55:00.000Z",
            "finished_at": "2026-01-31T11:56:00.000Z",
            "error": {"type": "ValueError", "message": "no \x1b[2J\nsuch order"},
        },
        {
            "id": "run_01m8kprppnxj3yxv1exkmhv73j",
            "project": "orders",
            "task": "report",
            "status": "running",
            "created_at": "2026-01-31T11:00:00.000Z",
        },
        {
            "id": "run_01m8kprppnxj3yxv1exkmhv73l",
            "project": "orders",
            "task": "report",
            "status": "queued",
            "created_at": "2026-01-31T11:59:50.000Z",
        },
    ],
}


def shown(seen: dict[str, Any] = SEEN, columns: int = 80, rows: int = 24, problem: str | None = None) -> list[str]:
    """The frame, which has to fit; nothing in it may act on a terminal."""
    lines = [line.text for line in frame(seen, columns, rows, problem)]
    assert len(lines) <= rows
    for text in lines:
        assert width(text) <= columns, text
        assert not any(texts.acts(character) or character in "\n\t" for character in text)
    return lines


def test_a_frame_has_hosts_queues_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        lines = shown()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert lines == [
        "Samovar at http://127.0.0.1:8020                  3 running, 43 queued  12:00:00",
        "",
        "host          state    memory of containers           containers",
        "alpha         alive    [######    ] 2.5 GiB/4 GiB     2 busy, 1 idle, 1 ready…",
        "beta          drained  [          ] 0 bytes/4 GiB",
        "gone          away",
        "",
        "running  limit   queued  state   queue",
        "      2      2       40  full    orders: reports",
        "      0      5        3  paused  prices: slow",
        "      1               0          orders: task/pay",
        "",
        "run                             status        for  project/task",
        "run_01m8kprppnxj3yxv1exkmhv73j  running      30 s  orders/report",
        "run_01m8kprppnxj3yxv1exkmhv73k  failed      4 min  orders/pay",
        "run_01m8kprppnxj3yxv1exkmhv73l  queued       10 s  orders/report",
    ]


def test_a_wider_frame_says_more() -> None:
    text = "\n".join(shown(columns=140))
    assert "2 busy, 1 idle, 1 ready, 1 starting" in text
    assert "42% reading" in text
    assert r"ValueError: no \x1b[2J\nsuch order" in text


@pytest.mark.parametrize("rows", range(1, 40))
def test_a_frame_fits_and_says_what_it_leaves_out(rows: int) -> None:
    many = {
        **SEEN,
        "runners": [{**SEEN["runners"][0], "runner": f"host-{number}"} for number in range(30)],
        "queues": [{**SEEN["queues"][0], "name": f"queue-{number}"} for number in range(30)],
        "newest": [{**SEEN["newest"][0], "id": f"run_{number}"} for number in range(30)],
    }
    lines = shown(many, rows=rows)
    assert len(lines) == rows
    if rows >= 12:
        left = [int(text.split()[1]) for text in lines if re.fullmatch(r"and \d+ more", text)]
        there = [sum(text.count(word) for text in lines) for word in ("host-", "queue-", "run_")]
        # alpha has gone into host-…, beta and gone are away; and one run is running
        assert [a + b for a, b in zip(there, left, strict=True)] == [33, 30, 31]
        assert max(there) - min(there) <= 2


@pytest.mark.parametrize("columns", [1, 2, 10, 40, 79, 81, 200])
def test_a_frame_fits_into_any_width(columns: int) -> None:
    hostile = "\u202e日本語の" * 20 + "\x1b]0;title\x07" + "e\u0301" * 20
    run = {**SEEN["newest"][0], "task": hostile, "error": {"type": hostile, "message": hostile}}
    queue = {**SEEN["queues"][0], "name": hostile}
    shown({**SEEN, "newest": [run], "queues": [queue]}, columns=columns, problem=hostile)


def test_where_there_is_nothing_it_says_what_to_type() -> None:
    nothing: dict[str, Any] = {name: [] for name in ("hosts", "runners", "queues", "running", "newest")}
    text = "\n".join(shown({**SEEN, **nothing}))
    for hint in ("samovar up", "nothing is deployed yet", "samovar trigger"):
        assert hint in text


def test_text_is_cut_by_columns() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"
    assert cut("abc", 0) == ""
    assert plain("a\tb\nc\r") == r"a b\nc\r"


# ---------------------------------------------------------------- on a terminal


@pytest.fixture
def run(install: Install, hand: Hand, project: Path) -> str:
    """A run that is under way until `hand.go` is released."""
    install.samovar("deploy", str(project))
    hand.steps = [{"seq": 1, "message": "first"}]
    made = install.json("trigger", "greet", "--payload", '{"name": "you"}')
    eventually(lambda: install.json("runs", "show", made["id"])["status"] == "running", "the run to begin")
    return str(made["id"])


def test_it_shows_what_happens_until_q_is_typed(install: Install, hand: Hand, run: str) -> None:
    with terminal(install.data, "top", "--every", "0.5") as seen:
        seen.until(f"{run}  running")
        assert "hand" in seen.text()
        # a frame is several questions, one after the other: its parts agree by the next one at the latest
        seen.until("1 running, 0 queued")
        hand.go.release(2)
        seen.until(f"{run}  completed")
        seen.until("0 running, 0 queued")
        seen.resize(120, 10)
        eventually(lambda: len(seen.text().splitlines()) <= 10, "a smaller frame")
        seen.type("q")
    assert seen.process.returncode == 0
    # at most two frames a second
    assert all(after - before > 0.4 for before, after in zip(seen.frames, seen.frames[1:], strict=False))
    # the first screen has nothing of it
    assert "".join(seen.screens[False]).strip() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_put_back_whatever_ends_it(install: Install, number: int) -> None:
    with terminal(install.data, "top") as seen:
        seen.until("Samovar at")
        if number == signal.SIGINT:
            seen.type("\x03")
        else:
            seen.process.send_signal(number)
    assert seen.process.returncode == (0 if number == signal.SIGINT else 128 + number)


GOING = """
import os, sys
from samovar.cli.screen import Screen

class Going:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        sum(range(1000))  # Python looks for signals between two steps of its own

screen = Screen()
with screen.taken():
    Going()
    screen.wait(60)
print("not ended")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_end_that_comes_while_an_object_goes_away_is_not_lost(number: int) -> None:
    """What is raised there Python writes to stderr, and goes on."""
    command = [sys.executable, "-c", GOING, str(int(number))]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False
    )
    assert "Exception ignored in" in ended.stderr
    assert "not ended" not in ended.stdout
    assert ended.returncode == (-number if number == signal.SIGINT else 128 + number)


def test_a_coordinator_that_is_away_is_said_and_q_still_ends_it(install: Install, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "api_key": "k"}))
    with terminal(tmp_path, "top") as seen:
        seen.until("no coordinator answers")
        seen.type("q")
    assert seen.process.returncode == 0


def test_once_prints_one_frame_and_json_one_object(install: Install, hand: Hand, run: str) -> None:
    printed = install.samovar("top", "--once").out
    assert "\x1b" not in printed
    assert f"{run}  running" in printed
    assert len(printed.splitlines()) <= 24
    document = install.json("top")
    assert [found["id"] for found in document["running"]] == [run]
    assert {found["runner"] for found in document["hosts"]} == {"hand"}
    assert document["queues"][0]["running"] == 1
    hand.go.release(2)


def test_a_key_of_a_project_sees_all_but_hosts(install: Install, hand: Hand, run: str) -> None:
    key = install.json("keys", "create", "viewer", "--role", "read", "--project", "demo")["key"]
    document = install.json("--url", install.url, "--api-key", key, "top")
    assert document["hosts"] == []
    assert [found["id"] for found in document["running"]] == [run]
    hand.go.release(2)


def test_without_a_terminal_it_says_what_to_give(install: Install) -> None:
    result = install.samovar("top", code=2)
    assert "--once" in result.err
    assert "--json" in result.err
