"""What is printed where: results on stdout, prose and progress on stderr, one JSON document with --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from samovar.cli import text as texts
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
        plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        self.out = Console(width=None if sys.stdout.isatty() else 200, soft_wrap=False, **plain)
        self.err = Console(stderr=True, **plain)
        #: The console with a line on it that has not ended.
        self._open: Console | None = None

    def document(self, value: Any) -> None:
        """Print `value` as the command's one JSON document."""
        document = json.dumps(value, ensure_ascii=False, indent=2)
        try:
            document.encode("utf-8")
        except UnicodeEncodeError:  # half a surrogate pair: JSON can say it, UTF-8 can't
            document = json.dumps(value, ensure_ascii=True, indent=2)
        # to a pipe as it is; to a person with nothing that acts on the terminal, and still the same JSON
        texts.write(sys.stdout, _json_visible(document) if texts.is_terminal(sys.stdout) else document)

    def say(self, text: str) -> None:
        """Prose, on stderr, also with --json."""
        self._print(self.err, (text, None))

    def line(self, text: str, style: str | None = None) -> None:
        """A line of a result, on stdout; with --json on stderr, where it disturbs no document."""
        self._print(self.err if self.as_json else self.out, (text, style))

    def state(self, text: str) -> None:
        """A line that has not ended: on a terminal until the next line is printed, nowhere else."""
        console = self.err if self.as_json else self.out
        if texts.is_terminal(console.file):
            self._close()
            shown = texts.visible(text).replace("\n", "\\n")
            console.print(Text(shown[-max(console.width - 1, 1) :]), end="", soft_wrap=True)
            console.file.flush()
            self._open = console

    def note(self, text: str, style: str | None = None) -> None:
        """A line on stderr that stands out less, or more, than prose."""
        self._print(self.err, (text, style))

    def warn(self, text: str) -> None:
        """A warning, on stderr."""
        self._print(self.err, ("warning:", "yellow"), (f" {text}", None))

    def status(self, text: str) -> Status:
        """A line on stderr that moves while the block runs, on a terminal; `busy` makes its other texts."""
        return self.err.status(self.busy(text))

    def busy(self, text: str) -> Text:
        """A text for the status line."""
        return texts.styled(self.err.file, text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
        """A table on stdout, or the sentence `empty` on stderr where there is no row."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column in {"run", "id", "version", "status"})
        count = 0
        for row in rows:
            table.add_row(*[self._cell(column, cell) for column, cell in zip(columns, row)])
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
                table.add_row(texts.styled(self.out.file, name), self._cell(name, value))
        self.out.print(table)

    def problem(self, message: str, fields: Sequence[dict[str, str]], *, word: str = "error") -> None:
        """An error for people: the message, then each field."""
        self._print(self.err, (f"{word}:", "red bold"), (f" {message}", None))
        for field in fields:
            path, text = field.get("path", ""), field.get("message", "")
            if f"{path}: {text}" in message:
                continue
            self._print(self.err, ("  ", None), (path, "bold"), (f": {text}", None))

    def _cell(self, column: str, cell: str) -> Text:
        style = _STATUS_STYLES.get(cell) if column in {"status", "outcome", "state"} else None
        return texts.styled(self.out.file, cell, style)

    def _close(self) -> None:
        """Wipe the line that had not ended: what it has become is printed next, or what came between."""
        console, self._open = self._open, None
        if console is not None:
            console.file.write("\r\x1b[K")
            console.file.flush()

    def _print(self, console: Console, *parts: tuple[str, str | None]) -> None:
        """One line in parts, each with its style; a pipe gets the text alone, past all layout."""
        self._close()
        if not texts.is_terminal(console.file):
            texts.write(console.file, "".join(text for text, _ in parts))  # type: ignore[arg-type]
            return
        line = Text.assemble(*[(texts.visible(text), style or "") for text, style in parts])
        console.print(line, soft_wrap=True)


def _json_visible(document: str) -> str:
    """A JSON document with the characters that act on a terminal as `\\uXXXX`: the same document."""
    acting = {ord(found): json.dumps(found)[1:-1] for found in set(document) if texts.acts(found)}
    return document.translate(acting)


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


def between(first: str, last: str) -> float:
    """Seconds between two times in ISO 8601."""
    times = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (first, last)]
    return max(0.0, (times[1] - times[0]).total_seconds())


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
    text = " ".join(value.split()) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"
