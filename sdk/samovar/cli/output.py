"""What is printed where: results on stdout, prose and progress on stderr, one JSON document with --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from samovar.values.units import format_memory

_STATUS_STYLES = {
    "completed": "green",
    "ready": "green",
    "ok": "green",
    "running": "cyan",
    "building": "cyan",
    "waiting": "blue",
    "failed": "red",
    "fail": "red",
    "timed_out": "red",
    "canceled": "yellow",
    "expired": "yellow",
    "warn": "yellow",
}


class Output:
    """The two streams of a command. With `as_json`, tables and texts for people are not printed."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        # a pipe has no width; a table cut to 80 columns is of no use to the program that reads it
        self.out = Console(width=None if sys.stdout.isatty() else 200, soft_wrap=False, highlight=False)
        self.err = Console(stderr=True, highlight=False)

    def document(self, value: Any) -> None:
        """Print `value` as the command's one JSON document."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Prose, on stderr, also with --json."""
        self.err.print(escape(text), soft_wrap=True)

    def line(self, text: str, style: str | None = None) -> None:
        """A line of a result, on stdout; with --json on stderr, where it disturbs no document."""
        (self.err if self.as_json else self.out).print(escape(text), style=style, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
        """A table on stdout, or the sentence `empty` on stderr where there is no row."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column in {"run", "id", "version", "status"})
        count = 0
        for row in rows:
            table.add_row(*[_styled(column, cell) for column, cell in zip(columns, row)])
            count += 1
        if count:
            self.out.print(table)
        else:
            self.say(empty)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values below each other, on stdout."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in rows:
            if value:
                table.add_row(escape(name), _styled(name, value))
        self.out.print(table)

    def problem(self, message: str, fields: Sequence[dict[str, str]], *, word: str = "error") -> None:
        """An error for people: the message, then each field."""
        self.err.print(f"[red bold]{word}:[/] {escape(message)}", soft_wrap=True)
        for field in fields:
            path, text = field.get("path", ""), field.get("message", "")
            if f"{path}: {text}" in message:
                continue
            self.err.print(f"  [bold]{escape(path)}[/]: {escape(text)}", soft_wrap=True)


def _styled(column: str, cell: str) -> str:
    style = _STATUS_STYLES.get(cell) if column in {"status", "outcome", "state"} else None
    return f"[{style}]{cell}[/]" if style else escape(cell)


def ago(text: str | None) -> str:
    """A time as people say it: "12 s ago". `text` is ISO 8601."""
    if not text:
        return ""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    seconds = (datetime.now(timezone.utc) - (at if at.tzinfo else at.replace(tzinfo=timezone.utc))).total_seconds()
    return f"{duration(max(seconds, 0))} ago"


def duration(seconds: float) -> str:
    """Seconds for people: "3 s", "4 min", "2 h", "5 d"."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def milliseconds(value: float | None) -> str:
    """Milliseconds for people, empty where there is no figure."""
    if value is None:
        return ""
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def memory(value: int | None) -> str:
    """Bytes for people, empty where there is no figure."""
    return "" if value is None else format_memory(value)


def short(value: Any, most: int = 100) -> str:
    """A JSON value on one line, cut at `most` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
