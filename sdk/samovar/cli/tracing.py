"""`samovar runs trace`: where the time of a run went, as a ledger and as a tree of bars."""

from __future__ import annotations

from typing import Any

from samovar.cli.command import Cli
from samovar.cli.output import memory, milliseconds
from samovar.cli.runs import RunArgument

#: Characters of a bar.
_WIDTH = 40
_PARTS = (
    ("delayed", "delayed_ms"),
    ("queued", "queued_ms"),
    ("placed", "placed_ms"),
    ("started", "started_ms"),
    ("imported", "imported_ms"),
    ("handed over", "handed_over_ms"),
    ("ran", "ran_ms"),
    ("waiting", "waiting_ms"),
    ("back-off", "back_off_ms"),
    ("reported", "reported_ms"),
    ("other", "other_ms"),
)


def show_trace(cli: Cli, run: RunArgument) -> None:
    """Show where the time of a run went: attempts, their phases, checkpoints, waits and child runs."""
    with cli.api() as api:
        found = api.get(f"/runs/{run}/trace")
    if cli.as_json:
        cli.output.document(found)
        return
    ledger, spans = found["ledger"], found["spans"]
    total = ledger["total_ms"]
    cli.output.line(f"{found['run']}  {found['project']}/{found['task']}  {found['status']}  {milliseconds(total)}")
    cli.output.line("")
    cli.output.table(
        ("spent", "time", "share"),
        [
            (name, milliseconds(spent), f"{100 * spent / total:.0f} %")
            for name, spent in _spent(ledger, found.get("queued_by") or [])
            if spent and total
        ],
        empty="no time yet",
    )
    cli.output.line("")
    depths: dict[str, int] = {}
    rows = []
    for span in spans:
        depth = depths[span["id"]] = depths.get(span.get("parent"), -1) + 1
        rows.append(
            (
                "  " * depth + _name(span),
                span.get("status") or "",
                milliseconds(span["begin_ms"]),
                milliseconds(span["end_ms"] - span["begin_ms"]) + ("" if span.get("ended_at") else " …"),
                bar(span["begin_ms"], span["end_ms"], total),
            )
        )
    cli.output.table(("span", "status", "from", "took", ""), rows, empty="nothing")
    more = [f"{count} more {what}" for what, count in (found.get("left_out") or {}).items() if count]
    if more:
        cli.output.line(f"left out: {', '.join(more)}")


def _spent(ledger: dict[str, Any], held: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """The parts of the ledger; below the time in line what held it there."""
    found = []
    for name, key in _PARTS:
        found.append((name, ledger[key]))
        if key == "queued_ms" and any(part["reason"] != "unseen" for part in held):
            found += [(f"  {part['reason'].replace('_', ' ')}", part["ms"]) for part in held]
    return found


def bar(begin: float, end: float, total: float, width: int = _WIDTH) -> str:
    """Where a span lies in the whole, as text of `width` characters: something of each is seen."""
    if total <= 0:
        return "·" * width
    first = min(width - 1, int(width * begin / total))
    last = min(width, max(first + 1, round(width * end / total)))
    return "·" * first + "█" * (last - first) + "·" * (width - last)


def _name(span: dict[str, Any]) -> str:
    name = str(span["name"])
    if span["kind"] == "checkpoint":
        return f"{name} ({memory(span.get('size_bytes'))})"
    if span["kind"] == "wait":
        what = span["of_wait"]
        return f"{name} ({' '.join(filter(None, (what['kind'], what.get('about'))))})"
    if span["kind"] == "child":
        return f"{name} {span['of_child']['id']}"
    if span["kind"] == "attempt":
        known = span["of_attempt"]
        words = [known.get("start"), f"on {known['runner']}" if known.get("runner") else None]
        return f"{name} ({' '.join(filter(None, words))})" if any(words) else name
    return name
