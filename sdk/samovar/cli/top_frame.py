"""What `samovar top` shows, as lines for a screen of so many columns and rows: pure, from answers of the API.

From the top: who and how much, hosts with their containers and memory, queues, runs. Each part gets the rows it
needs; where there are too few, the longest give way, and a line says how many are left out.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

from samovar.cli import text as texts
from samovar.cli.output import duration, memory
from samovar.cli.watching import FINAL

#: The smallest screen that all parts have a place on.
COLUMNS, ROWS = 80, 24
_BAR = 10
_GAP = 2
_STATES = ("busy", "idle", "ready", "starting", "leaving")


class Line(NamedTuple):
    """`style`: "", "bold", "dim", "red" or "yellow"."""

    text: str
    style: str = ""


#: Its cells, and the style of the line.
Row = tuple[tuple[str, ...], str]


class Part(NamedTuple):
    """A table: `columns` with the width of each, 0 for the one that takes what is left; right-aligned below 0."""

    columns: tuple[tuple[str, int], ...]
    rows: list[Row]
    #: What stands where it has none.
    empty: str


def frame(seen: dict[str, Any], columns: int = COLUMNS, rows: int = ROWS, problem: str | None = None) -> list[Line]:
    """At most `rows` lines of at most `columns` columns. `problem`: why `seen` is not newer than it is."""
    parts = [_hosts(seen), _queues(seen), _runs(seen)]
    head = [_head(seen, columns)]
    if problem:
        head.append(Line(cut(plain(problem), columns), "red"))
    # above each part a blank line and its columns
    room = max(rows - len(head) - 2 * len(parts), 0)
    lines = head
    for part, share in zip(parts, _shares([max(len(part.rows), 1) for part in parts], room)):
        lines += [Line(""), *_table(part, columns, share)]
    return lines[:rows]


def _shares(wanted: list[int], room: int) -> list[int]:
    """So many rows for each part: what it wants, or as much as the others where that is not there for all."""
    shares = [0] * len(wanted)
    while room > 0 and shares != wanted:
        for part, want in enumerate(wanted):
            if shares[part] < want and room > 0:
                shares[part] += 1
                room -= 1
    return shares


def _head(seen: dict[str, Any], columns: int) -> Line:
    running, queued = (sum(queue[name] for queue in seen["queues"]) for name in ("running", "queued"))
    right = f"{running} running, {queued} queued  {_clock(seen['at'])}"
    left = cut(plain(f"Samovar at {seen['url']}"), max(columns - width(right) - _GAP, 0))
    return Line(cut(left + " " * max(columns - width(left) - width(right), 1) + right, columns), "bold")


def _hosts(seen: dict[str, Any]) -> Part:
    runners = {runner["runner"]: runner for runner in seen["runners"]}
    hosts = {host["runner"]: host for host in seen["hosts"]}
    rows: list[Row] = []
    # those in use first, then what is away
    for name in [*runners, *(name for name in hosts if name not in runners)]:
        runner, host = runners.get(name), hosts.get(name, {})
        state, style = _host_state(host, runner is not None)
        cells: tuple[str, ...] = (name, state, "", "")
        if runner is not None:
            free, size = runner.get("used") or 0, runner["memory"]
            count = Counter(_container_state(entry) for entry in runner["containers"])
            states = ", ".join(f"{count[state]} {state}" for state in _STATES if count[state])
            used = sum(entry["memory"] for entry in runner["containers"])
            held = f"{bar(used, free or size)} {memory(used)}/{memory(free or size)}"
            cells = (name, state, held, states)
        rows.append((cells, style))
    widths = (("host", 12), ("state", 7), ("memory of containers", 29), ("containers", 0))
    return Part(widths, rows, "no host; `samovar up` starts one, `samovar hosts token` enrols one")


def _host_state(host: dict[str, Any], live: bool) -> tuple[str, str]:
    if host.get("revoked_at"):
        return "revoked", "red"
    if not (live or host.get("alive")):
        return "away", "red"
    return ("drained", "yellow") if host.get("drained_at") else ("alive", "")


def _container_state(entry: dict[str, Any]) -> str:
    return "ready" if entry.get("prepared") and entry["state"] == "idle" else str(entry["state"])


def _queues(seen: dict[str, Any]) -> Part:
    used = [queue for queue in seen["queues"] if queue["running"] or queue["queued"] or queue["paused"]]
    used.sort(key=lambda queue: (-queue["queued"], -queue["running"], queue["project"], queue["name"]))
    rows: list[Row] = []
    for queue in used:
        limit = "" if queue["concurrency"] is None else str(queue["concurrency"])
        full = queue["concurrency"] is not None and queue["running"] >= queue["concurrency"]
        state = "paused" if queue["paused"] else "full" if full else ""
        cells = (str(queue["running"]), limit, str(queue["queued"]), state, f"{queue['project']}: {queue['name']}")
        rows.append((cells, "yellow" if queue["paused"] else ""))
    widths = (("running", -7), ("limit", -5), ("queued", -7), ("state", 6), ("queue", 0))
    idle = len(seen["queues"]) - len(used)
    return Part(widths, rows, f"all {idle} queues are empty" if idle else "no queues: nothing is deployed yet")


def _runs(seen: dict[str, Any]) -> Part:
    running = seen["running"]
    known = {run["id"] for run in running}
    rows: list[Row] = [
        (_run(run, seen["at"]), _RUN_STYLES.get(run["status"], ""))
        for run in [*running, *(run for run in seen["newest"] if run["id"] not in known)]
    ]
    widths = (("run", 30), ("status", 9), ("for", -6), ("project/task", 28), ("", 0))
    return Part(widths, rows, "no runs; `samovar trigger TASK` makes one")


_RUN_STYLES = {"failed": "red", "timed_out": "red", "expired": "yellow", "canceled": "yellow", "running": "bold"}


def _run(run: dict[str, Any], at: str) -> tuple[str, ...]:
    since = run["created_at"]
    if run["status"] in FINAL:
        since = run.get("finished_at") or since
    elif run["status"] == "running":
        since = run.get("started_at") or since
    error, progress = run.get("error") or {}, run.get("progress") or {}
    if error and run["status"] in FINAL:
        note = f"{error.get('type')}: {error.get('message')}"
    else:
        fraction, message = progress.get("fraction"), progress.get("message")
        shown = [f"{fraction:.0%}"] if isinstance(fraction, (int, float)) else []
        note = " ".join([*shown, *([str(message)] if message else [])])
    # the id whole, so that it can be copied
    return run["id"], run["status"], _between(since, at), f"{run['project']}/{run['task']}", note


# ---------------------------------------------------------------- tables


def _table(part: Part, columns: int, room: int) -> list[Line]:
    """The names of the columns and at most `room` rows, the last of which says what is left out."""
    lines = [Line(_row(tuple(name for name, _ in part.columns), part.columns, columns), "dim")]
    if not part.rows:
        return [*lines, *[Line(cut(part.empty, columns), "dim")][:room]]
    shown = part.rows if len(part.rows) <= room else part.rows[: max(room - 1, 0)]
    lines += [Line(_row(cells, part.columns, columns), style) for cells, style in shown]
    left_out = len(part.rows) - len(shown)
    if left_out and room:
        lines.append(Line(f"and {left_out} more", "dim"))
    return lines


def _row(cells: tuple[str, ...], columns: tuple[tuple[str, int], ...], most: int) -> str:
    fixed = sum(abs(size) + _GAP for _, size in columns)
    parts = []
    for cell, (_, size) in zip(cells, columns):
        room = size or max(most - fixed, 0)
        shown = cut(plain(cell), abs(room))
        space = " " * (abs(room) - width(shown))
        parts.append(space + shown if room < 0 else shown + space)
    return cut((" " * _GAP).join(parts).rstrip(), most)


def bar(part: float, whole: float) -> str:
    """As `[#####     ]`."""
    full = round(min(max(part / whole, 0.0), 1.0) * _BAR) if whole else 0
    return f"[{'#' * full}{' ' * (_BAR - full)}]"


def plain(text: str) -> str:
    """`text` on one line, with nothing in it that acts on a terminal."""
    return texts.visible(text).replace("\n", "\\n").replace("\t", " ")


def width(text: str) -> int:
    """Columns that a terminal gives to `text`."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, most: int) -> str:
    """`text`, or as much of it as has room in `most` columns, with an ellipsis then."""
    if width(text) <= most:
        return text
    shown, room = [], most - 1
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        shown.append(character)
    return "".join(shown) + "…" if most > 0 else ""


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _clock(text: str) -> str:
    return f"{_time(text).astimezone():%H:%M:%S}"


def _between(first: str, last: str) -> str:
    return duration(max((_time(last) - _time(first)).total_seconds(), 0.0))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
