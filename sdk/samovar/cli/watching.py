"""Watching a run: until it has ended, or line by line."""

from __future__ import annotations

import json
import time
from typing import Any

from samovar.cli.api import POLL, Api
from samovar.cli.errors import RunDidNotComplete
from samovar.cli.output import Output, memory, milliseconds

FINAL = frozenset({"completed", "failed", "canceled", "timed_out", "expired"})
#: Seconds between two looks at the lines of several runs.
_PAUSE = 0.5


def wait(api: Api, output: Output, run: dict[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
    """Wait until `run` has ended, or `timeout` seconds are over; gives the run as it is then."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with output.status(_title(run)) as status:
        while run["status"] not in FINAL:
            rest = POLL if deadline is None else min(POLL, deadline - time.monotonic())
            if rest <= 0:
                break
            run = api.patient_get(f"/runs/{run['id']}/wait", timeout=rest)
            status.update(output.busy(_title(run)))
    return run


def follow(api: Api, output: Output, run: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """Print the run's log lines and progress as they come, until it has ended; `wanted`: which lines."""
    last: str | None = None
    status = run["status"]
    while status not in FINAL or last is None:
        for event, identifier, data in api.events(f"/runs/{run['id']}/stream", last=last, **wanted):
            last = identifier or last
            if event == "log":
                print_line(output, data)
            elif event == "progress" and data.get("progress"):
                output.say(_progress(data["progress"]))
            elif event == "status":
                status = data["status"]
    found: dict[str, Any] = api.patient_get(f"/runs/{run['id']}")
    return found


def follow_family(api: Api, output: Output, run: str, **wanted: Any) -> None:
    """Print the lines of a run and of the runs below it as they come, until all of them have ended."""
    after: str | None = None
    while True:
        page = api.patient_get(f"/runs/{run}/logs", after=after, **wanted)
        for line in page["items"]:
            print_line(output, line, whose(line))
        after = page["last"]
        if page["next"]:
            continue
        if all(one["status"] in FINAL for one in page["runs"]):
            return
        time.sleep(_PAUSE)


def whose(line: dict[str, Any]) -> str:
    """What stands before a line among those of several runs."""
    return f"{line['run']} " if line.get("run") else ""


def print_line(output: Output, line: dict[str, Any], prefix: str = "") -> None:
    """One log line of a run, after `prefix`; those of stderr and of a level above info stand out.

    One that has not ended is a state: what it becomes is printed over it.
    """
    text = prefix + _head(line) + str(line.get("message", ""))
    if line.get("partial"):
        output.state(text)
        return
    level = str(line.get("level") or "info")
    style = {"error": "red", "critical": "red", "warning": "yellow"}.get(level)
    if style is None and line.get("stream") in {"stderr", "samovar"}:
        style = "yellow"
    output.line(text, style)


def _head(line: dict[str, Any]) -> str:
    """What stands before a line: of a log record its level and logger."""
    logger = f"{line['logger']}: " if line.get("logger") else ""
    return f"{str(line.get('level') or 'info').upper()} {logger}" if line.get("stream") == "logging" else logger


def conclude(output: Output, run: dict[str, Any]) -> None:
    """Print a run that was waited for. Raises RunDidNotComplete where it did not complete."""
    if output.as_json:
        output.document(run)
    else:
        output.say(summary(run))
        if run["status"] == "completed":
            result = run.get("result")
            output.line(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))
        elif run["status"] in FINAL:
            print_error(output, run)
    if run["status"] != "completed":
        raise RunDidNotComplete(f"run {run['id']} is {run['status']}")


def print_error(output: Output, run: dict[str, Any]) -> None:
    """Why a run failed, with its traceback, on stderr."""
    error = run.get("error") or {}
    output.problem(f"{error.get('type', '')}: {error.get('message', run['status'])}", [], word=run["status"])
    if error.get("traceback"):
        output.note(str(error["traceback"]).rstrip(), "dim")


def summary(run: dict[str, Any]) -> str:
    """How a run went, on one line."""
    timings, usage = run.get("timings") or {}, run.get("usage") or {}
    parts = [f"{run['id']} {run['status']}", f"attempt {run['attempt']}"]
    if timings.get("start"):
        parts.append(str(timings["start"]))
    for name, key in (("queued", "queued_ms"), ("start", "start_ms"), ("run", "run_ms")):
        if timings.get(key) is not None:
            parts.append(f"{name} {milliseconds(timings[key])}")
    if usage.get("peak_memory_bytes") is not None:
        parts.append(f"peak {memory(usage['peak_memory_bytes'])}")
    return ", ".join(parts)


def _title(run: dict[str, Any]) -> str:
    title = f"{run['task']} {run['id']} is {run['status']}"
    return f"{title}, {_progress(run['progress'])}" if run.get("progress") else title


def _progress(data: dict[str, Any]) -> str:
    fraction, message = data.get("fraction"), data.get("message")
    parts = [f"{float(fraction):.0%}"] if isinstance(fraction, (int, float)) else []
    return " ".join([*parts, *([str(message)] if message else [])])
