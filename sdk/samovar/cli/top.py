"""`samovar top`: hosts, containers, queues and runs on one screen, as they are now."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import Annotated, Any

import typer

from samovar.cli import text as texts
from samovar.cli.api import Api
from samovar.cli.command import Cli
from samovar.cli.errors import CliError, Refused
from samovar.cli.top_frame import Line, cut, frame, plain

#: Seconds between two frames at least.
_PAUSE = 0.5
#: Runs that are asked for: more than a screen has rows.
_RUNS = 60


def top(
    cli: Cli,
    every: Annotated[float, typer.Option(min=_PAUSE, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and end.")] = False,
) -> None:
    """Show hosts, containers, queues and runs, live: q or Ctrl-C ends it. With --json one object, and the end."""
    with cli.api() as api:
        if cli.as_json:
            cli.output.document(look(api))
        elif once:
            columns, rows = shutil.get_terminal_size()
            for line in frame(look(api), columns, rows):
                texts.write(sys.stdout, line.text)
        elif not texts.is_terminal(sys.stdout):
            message = "what is written to is no terminal: --once prints one frame, --json one object"
            raise CliError(f"top: {message}", fields=[{"path": "once", "message": message}])
        else:
            _show(api, every)


def look(api: Api) -> dict[str, Any]:
    """What there is now. Raises CliError. `hosts` is empty for a key that may not see them."""
    pool = api.get("/pool", left=1)
    try:
        hosts = list(api.items("/hosts"))
    except Refused:
        hosts = []
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "url": api.credentials.url,
        "hosts": hosts,
        "runners": pool["items"],
        "queues": api.get("/queues")["items"],
        "running": api.get("/runs", status=["running"], limit=_RUNS)["items"],
        "newest": api.get("/runs", limit=_RUNS)["items"],
    }


class _Looking:
    """Looks again and again, in a thread of its own: a coordinator that is slow keeps no key from being heard."""

    def __init__(self, api: Api, every: float, tell: Any) -> None:
        self._api, self._every, self._tell = api, every, tell
        self.url = api.credentials.url
        self._ending = threading.Event()
        self.seen: dict[str, Any] | None = None
        self.problem: str | None = None
        self.news = 0

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self.seen, self.problem = look(self._api), None
            except CliError as error:
                self.problem = error.message
            except Exception as error:
                # the connection was closed under it, at the end; else it is told like any other
                self.problem = str(error)
            self.news += 1
            self._tell()
            self._ending.wait(self._every)


def _show(api: Api, every: float) -> None:
    from samovar.cli.screen import Screen  # which needs a system with terminals

    screen = Screen()
    looking = _Looking(api, every, screen.wake)
    drawn, shown = 0.0, None
    with suppress(KeyboardInterrupt), screen.taken():
        looking.start()
        try:
            while True:
                # what is new is drawn when the pause is over; a key ends it at once
                due = drawn + _PAUSE - time.monotonic()
                state = (looking.news, screen.size())
                if due <= 0 and state != shown:
                    screen.draw(_frame(looking, *screen.size()))
                    drawn, shown = time.monotonic(), state
                typed = screen.wait(due if due > 0 and state != shown else 60.0)
                if "q" in typed.lower():
                    return
        finally:
            looking.end()


def _frame(looking: _Looking, columns: int, rows: int) -> list[Line]:
    if looking.seen is None:
        return [Line(cut(plain(looking.problem or f"asking {looking.url} …"), columns))]
    return frame(looking.seen, columns, rows, looking.problem)
