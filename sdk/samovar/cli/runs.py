"""`samovar runs`: look at runs, their attempts and logs, and ask why one does what it does."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Optional

import typer

from samovar.cli import bulk, projects, watching
from samovar.cli.command import Cli
from samovar.cli.output import ago, duration, memory, milliseconds, short
from samovar.cli.timings import phases, start

RunArgument = Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")]


def list_runs(
    cli: Cli,
    status: Annotated[Optional[list[str]], typer.Option(help="Only runs of this status; may be repeated.")] = None,
    task: Annotated[Optional[str], typer.Option(help="Only runs of this task.")] = None,
    project: Annotated[Optional[str], projects.only_option("Only runs of this project")] = None,
    parent: Annotated[Optional[str], typer.Option(help="Only runs that this run has triggered.")] = None,
    tag: Annotated[Optional[list[str]], typer.Option(help="Only runs with this tag; may be repeated.")] = None,
    since: Annotated[Optional[str], typer.Option(help='Not older than this: "2h", or a time in ISO 8601.')] = None,
    dead_letter: Annotated[
        bool, typer.Option("--dead-letter", help="Only those that failed for good, and nobody saw to yet.")
    ] = False,
    error: Annotated[Optional[str], typer.Option(help="Only those with this error: its fingerprint.")] = None,
    version: Annotated[Optional[str], typer.Option(help="Only those of this version.")] = None,
    origin: Annotated[
        Optional[str],
        typer.Option(help="Only those triggered by this: api, schedule, event, webhook, run, replay."),
    ] = None,
    start: Annotated[Optional[str], typer.Option(help="Only those started so: warm, stem, waited, cold.")] = None,
    longer: Annotated[Optional[str], typer.Option(help='Only those that ran for longer: "30s", "5m".')] = None,
    ended: Annotated[Optional[str], typer.Option(help="Only those that ended since then, as --since.")] = None,
    text: Annotated[Optional[str], typer.Option(help="Only those with this in id, keys or error.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    cursor: Annotated[Optional[str], typer.Option(help="Where an earlier list ended (`next`).")] = None,
) -> None:
    """List runs, the newest first."""
    wanted: dict[str, Any] = {
        "status": status,
        "task": task,
        "project": projects.narrowed(cli.output, project),
        "parent": parent,
        "tag": tag,
        "since": bulk.since_of(since),
        "dead_letter": True if dead_letter else None,
        "error": error,
        "version": version,
        "origin": origin,
        "start": start,
        "longer": longer,
        "ended": bulk.since_of(ended),
        "text": text,
    }
    with cli.api() as api:
        if cli.as_json:
            cli.output.document(api.get("/runs", limit=min(limit, 500), cursor=cursor, **wanted))
            return
        first = api.get("/runs", limit=min(limit, 100), cursor=cursor, **wanted)
        found = list(first["items"])
        # (where it has looked at many to find few it says so, instead of looking at all there are)
        while len(found) < limit and first.get("next") and not first.get("looked_back_to"):
            first = api.get("/runs", limit=min(limit - len(found), 100), cursor=first["next"], **wanted)
            found += first["items"]
    cli.output.table(
        ("run", "task", "status", "version", "attempts", "created", "start", "run time", "error"),
        [_row(run) for run in islice(found, limit)],
        empty="no runs",
    )
    if first.get("looked_back_to") and len(found) < limit:
        cli.output.say(f"looked back to {first['looked_back_to']}: --cursor {first['next']} goes on from there")


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    timings, error = run.get("timings") or {}, run.get("error") or {}
    return (
        run["id"],
        f"{run['project']}/{run['task']}",
        run["status"],
        run["version"],
        str(run["attempts"]),
        ago(run["created_at"]),
        timings.get("start") or "",
        milliseconds(timings.get("run_ms")),
        short(f"{error.get('type')}: {error.get('message')}", 60) if error else "",
    )


def show_run(cli: Cli, run: RunArgument) -> None:
    """Show a run with its attempts."""
    with cli.api() as api:
        found = api.get(f"/runs/{run}")
        if cli.as_json:
            cli.output.document(found)
            return
        attempts = api.get(f"/runs/{run}/attempts")
    timings, usage = found.get("timings") or {}, found.get("usage") or {}
    cli.output.pairs(
        [
            ("run", found["id"]),
            ("task", f"{found['project']}/{found['task']}"),
            ("version", found["version"]),
            ("status", found["status"]),
            ("created", f"{found['created_at']} ({ago(found['created_at'])})"),
            ("started", found.get("started_at") or ""),
            ("finished", found.get("finished_at") or ""),
            ("queued", milliseconds(timings.get("queued_ms"))),
            ("start", f"{milliseconds(timings.get('start_ms'))} {start(timings)}".strip()),
            ("ran", milliseconds(timings.get("run_ms"))),
            ("phases", phases(timings)),
            ("peak memory", _memory(usage)),
            ("error", (found.get("error") or {}).get("fingerprint") or ""),
            ("log lines", ", ".join(f"{n} {level}" for level, n in (found.get("logs") or {}).items() if n)),
            ("origin", " ".join(filter(None, (found["origin"]["kind"], found["origin"]["id"])))),
            ("deadline", found.get("deadline_at") or ""),
            ("tags", ", ".join(found.get("tags") or [])),
            ("concurrency key", found.get("concurrency_key") or ""),
            ("idempotency key", found.get("idempotency_key") or ""),
            ("progress", json.dumps(found["progress"]) if found.get("progress") else ""),
            ("metadata", json.dumps(found["metadata"]) if found.get("metadata") else ""),
            ("payload", short(found.get("payload"), 500)),
            ("result", short(found.get("result"), 500) if found["status"] == "completed" else ""),
        ]
    )
    items = _items(attempts)
    if items:
        cli.output.line("")
        _print_attempts(cli, items)
    if any(attempt.get("egress") for attempt in items):
        cli.output.line("")
        _print_egress(cli, items)
    if found.get("error"):
        watching.print_error(cli.output, found)


def list_attempts(cli: Cli, run: RunArgument) -> None:
    """List the attempts of a run: where each ran, and how it ended."""
    with cli.api() as api:
        found = api.get(f"/runs/{run}/attempts")
    if cli.as_json:
        cli.output.document({"items": _items(found), "next": None})
        return
    _print_attempts(cli, _items(found))


def _print_attempts(cli: Cli, attempts: list[dict[str, Any]]) -> None:
    cli.output.table(
        ("attempt", "status", "start", "runner", "started", "exit code", "peak memory", "error"),
        [
            (
                str(attempt["number"]),
                attempt["status"],
                start(attempt),
                attempt.get("runner") or "",
                ago(attempt.get("started_at")),
                "" if attempt.get("exit_code") is None else str(attempt["exit_code"]),
                _memory(attempt.get("usage") or {}),
                short((attempt.get("error") or {}).get("message") or "", 80),
            )
            for attempt in attempts
        ],
        empty="no attempt yet",
    )


def _print_egress(cli: Cli, attempts: list[dict[str, Any]]) -> None:
    cli.output.table(
        ("attempt", "reached", "connections", "sent", "received", "open for", "refused"),
        [
            (
                str(attempt["number"]),
                f"{host['host']}:{host['port']}" if host["port"] else host["host"],
                str(host["connections"]),
                memory(host["sent"]),
                memory(host["received"]),
                duration(host["seconds"]),
                f"{host['refused']}: {short(host.get('reason') or '', 80)}" if host["refused"] else "",
            )
            for attempt in attempts
            for host in attempt.get("egress") or []
        ],
        empty="nothing",
    )


def show_logs(
    cli: Cli,
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    level: Annotated[
        Optional[str],
        typer.Option(help="Only lines of this level or a higher one: debug, info, warning, error, critical."),
    ] = None,
    grep: Annotated[
        Optional[str], typer.Option(help="Only lines with this text, in whatever case.", metavar="TEXT")
    ] = None,
    attempt: Annotated[Optional[int], typer.Option(min=1, help="Only lines of this attempt.")] = None,
    stream: Annotated[
        Optional[str], typer.Option(help="Only lines of this stream: stdout, stderr, logging, samovar.")
    ] = None,
    logger: Annotated[Optional[str], typer.Option(help="Only lines by this logger, or one below it.")] = None,
    children: Annotated[
        bool, typer.Option("--children", help="With the lines of the runs below it, together by time.")
    ] = False,
) -> None:
    """Print what a run wrote, or those lines of it that are looked for."""
    wanted = {"level": level, "text": grep or None, "attempt": attempt, "stream": stream, "logger": logger or None}
    if children:
        wanted["children"] = "true"
    with cli.api() as api:
        if follow and children and not cli.as_json:
            watching.follow_family(api, cli.output, run, **wanted)
            return
        if follow and not cli.as_json:
            watching.follow(api, cli.output, api.get(f"/runs/{run}"), **wanted)
            return
        if follow:
            watching.wait(api, cli.output, api.get(f"/runs/{run}"))
        if not cli.as_json:
            for line in _lines(api, run, **wanted):
                # as it stands now: nothing more of it will come here
                watching.print_line(cli.output, {**line, "partial": False}, watching.whose(line))
            return
        lines = list(_lines(api, run, **wanted))
    names = (*(("run",) if children else ()), "at", "level", "stream", "logger", "message", "attempt", "seq")
    whole = [{name: line.get(name) for name in names} for line in lines]
    for shown, line in zip(whole, lines):
        if line.get("partial"):
            shown["partial"] = True
    cli.output.document(whole)


def _lines(api: Any, run: str, **wanted: Any) -> Iterator[dict[str, Any]]:
    """Page after page; one that looked through much and found nothing is not the last."""
    after = None
    while True:
        page = api.get(f"/runs/{run}/logs", after=after, **wanted)
        yield from page["items"]
        after = page.get("next")
        if not after:
            return


def explain_run(cli: Cli, run: RunArgument) -> None:
    """Say why a run is not running: what it waits for, and until when."""
    with cli.api() as api:
        found = api.get(f"/runs/{run}/why")
    if cli.as_json:
        cli.output.document(found)
        return
    cli.output.line(f"{run} is {found['status']}: {found['message']}")
    if found.get("position") is not None and found["reason"] != "turn":
        cli.output.line(f"its place in line is {found['position']}")


def _items(document: Any) -> list[dict[str, Any]]:
    return list(document["items"]) if isinstance(document, dict) else list(document)


def _memory(usage: dict[str, Any]) -> str:
    peak, limit = usage.get("peak_memory_bytes"), usage.get("memory_limit_bytes")
    return f"{memory(peak)} of {memory(limit)}" if peak is not None and limit is not None else memory(peak)
