"""`samovar pool`: the containers that runners hold, how runs begin, and which containers have left."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from samovar.cli.command import Cli
from samovar.cli.output import ago, between, duration, memory

#: Containers that have left, as many as a person looks at.
_LEFT = 20


def show_pool(
    cli: Cli,
    what_if: Annotated[
        bool,
        typer.Option(
            "--what-if", help="Replay the last day's starts for other sizes of memory, and show that alone."
        ),
    ] = False,
) -> None:
    """Show the containers of every live runner, how runs began of late, and which containers have left and why."""
    if what_if:
        _show_what_if(cli)
        return
    with cli.api() as api:
        found = api.get("/pool") if cli.as_json else api.get("/pool", left=_LEFT)
    if cli.as_json:
        cli.output.document(found)
        return
    runners = list(found["items"])
    if not runners:
        cli.output.say("no runner is alive; `samovar up` starts one, and `samovar doctor` says what is in its way")
    rows: list[tuple[str, ...]] = []
    for runner in runners:
        entries: list[dict[str, Any]] = list(runner["containers"])
        cli.output.say(
            f"runner {runner['runner']}: its containers may take {memory(runner['used'])} of "
            f"{memory(runner['memory'])}, {runner['slots']} slots"
        )
        rows += [_container(entry) for entry in entries]
    if runners:
        columns = ("container", "project", "state", "memory", "used", "runs", "age", "H", "task")
        cli.output.table(columns, rows, empty="no containers")
    for name, key in (("last hour", "hour"), ("last day", "day")):
        if (found.get(key) or {}).get("runs"):
            cli.output.line(f"{name}: {_figures(found[key])}")
    if found.get("left"):
        cli.output.line("")
        cli.output.table(
            ("left", "project", "task", "why", "for", "lived", "runs", "memory"),
            [_left(life) for life in found["left"]],
            empty="none",
        )


def _show_what_if(cli: Cli) -> None:
    with cli.api() as api:
        found = api.get("/pool/what-if", patience=60.0)
    if cli.as_json:
        cli.output.document(found)
        return
    if not found["runs"]:
        cli.output.say("nothing has begun in the last 24 hours")
        return
    cli.output.line(
        f"{found['runs']} starts since {ago(found['since'])}"
        + (" (there were more, and so many are read)" if found["cut_short"] else "")
        + f"; as it was: {found['cold_ratio']:.1%} cold, mean delay {found['mean_delay_ms']:.0f} ms"
    )
    rows = [
        (
            memory(point["memory"]) + (" now" if point["memory"] == found["memory"] else ""),
            f"{point['cold_ratio']:.1%}",
            f"{point['waited_ratio']:.1%}",
            f"{point['mean_delay_ms']:.0f} ms",
            f"{point['p99_delay_ms']:.0f} ms",
            str(point["dropped"]),
        )
        for point in found["points"]
    ]
    cli.output.table(("memory", "cold", "waited", "mean delay", "p99", "never begun"), rows, empty="nothing")


def _container(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(entry["container"])[:24],
        str(entry["project"]),
        "ready" if entry.get("prepared") and entry["state"] == "idle" else str(entry["state"]),
        memory(int(entry["memory"])),
        memory(entry.get("used")),
        str(entry["runs"]),
        duration(float(entry["age"])),
        "" if entry.get("worth") is None else f"{entry['worth']:.3g}",
        str(entry.get("task") or ""),
    )


def _figures(found: dict[str, Any]) -> str:
    """As in "120 runs, 94% without a start: 100 warm, 5 stem, 8 waited, 7 cold (4 evicted, 3 first)"."""
    parts = [f"{found[start]} {start}" for start in ("warm", "stem", "waited", "cold") if found.get(start)]
    causes = sorted((found.get("causes") or {}).items(), key=lambda item: -int(item[1]))
    cold = f" ({', '.join(f'{count} {cause}' for cause, count in causes)})" if causes else ""
    return f"{found['runs']} runs, {found['hits']:.0%} without a start: {', '.join(parts)}{cold}"


def _left(life: dict[str, Any]) -> tuple[str, ...]:
    by = life.get("by")
    return (
        ago(life["left_at"]),
        str(life["project"]),
        str(life.get("task") or ""),
        str(life["why"]),
        f"{by['project']}/{by['task']}" if by else "",
        duration(between(life["began_at"], life["left_at"])),
        str(life["runs"]),
        _staircase(life["memory_runs"]),
    )


def _staircase(samples: list[dict[str, Any]]) -> str:
    """What was held after the first and after the last run that is known of, and the most that one took."""
    after = [sample["after"] for sample in samples if sample.get("after") is not None]
    peaks = [sample["peak"] for sample in samples if sample.get("peak") is not None]
    held = " to ".join(dict.fromkeys(memory(value) for value in (after[0], after[-1]))) if after else ""
    return ", ".join(filter(None, (held, f"peak {memory(max(peaks))}" if peaks else "")))
