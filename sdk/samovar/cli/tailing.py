"""The log lines of all runs of a project, as they come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from samovar.cli.api import Api
from samovar.cli.errors import CliError, NotFound
from samovar.cli.watching import FINAL

PAUSE = 0.5
#: Runs asked about at a time: thousands may wait in line, and are not to keep those that run from being seen.
_AT_ONCE = 40
_PAGE = 100
_UNFINISHED = ["queued", "delayed", "running", "waiting"]

#: Given a run, and one of its lines or None where its status is news.
Tell = Callable[[dict[str, Any], "dict[str, Any] | None"], None]


@dataclass
class _Followed:
    run: str
    #: Lines before this time are of before, and not told (seconds since 1970).
    since: float
    status: str = ""
    after: str | None = None


class Tail:
    """Follows every run of `project` that is there or comes; for one thread.

    Runs that ended before it began are not told, nor what the others wrote until then.
    """

    def __init__(self, api: Api, project: str, tell: Tell) -> None:
        self._api = api
        self._project = project
        self._tell = tell
        self._began: float | None = None
        self._known: set[str] = set()
        self._followed: deque[_Followed] = deque()

    def run(self, ending: threading.Event) -> None:
        """Tell until `ending` is set. A coordinator that is away is asked again."""
        while not ending.is_set():
            try:
                self.step()
            except CliError:
                # who deploys says that the coordinator is away; there is nothing to add
                ending.wait(PAUSE)
            ending.wait(PAUSE)

    def step(self) -> None:
        """Look once. Raises CliError where the coordinator does not answer; nothing is lost by that."""
        if self._began is None:
            began = time.time()
            for run in self._api.items("/runs", project=self._project, status=_UNFINISHED, limit=_PAGE):
                self._follow(run["id"], began)
            self._began = began
        self._discover()
        for _ in range(min(len(self._followed), _AT_ONCE)):
            followed = self._followed[0]
            if self._ended(followed):
                self._followed.popleft()
            else:
                self._followed.rotate(-1)

    def _discover(self) -> None:
        assert self._began is not None
        since = datetime.fromtimestamp(self._began, timezone.utc).isoformat()
        new = []
        for run in self._api.items("/runs", project=self._project, since=since, limit=_PAGE):
            if run["id"] in self._known:
                # the newest come first: those after it are known
                break
            new.append(run["id"])
        for run_id in new:
            # in front: somebody has just triggered it
            self._follow(run_id, 0.0)

    def _follow(self, run: str, since: float) -> None:
        if run not in self._known:
            self._known.add(run)
            self._followed.appendleft(_Followed(run, since))

    def _ended(self, followed: _Followed) -> bool:
        """Tell what is new of a run; whether it has ended."""
        try:
            # first the run and then its lines: with its end all of them are there
            run = self._api.get(f"/runs/{followed.run}")
            if run["attempts"]:
                self._lines(run, followed)
        except NotFound:
            return True
        if run["status"] != followed.status:
            followed.status = run["status"]
            self._tell(run, None)
        return run["status"] in FINAL

    def _lines(self, run: dict[str, Any], followed: _Followed) -> None:
        more = True
        while more:
            page = self._api.get(f"/runs/{followed.run}/logs", after=followed.after)
            followed.after = page["last"]
            for line in page["items"]:
                if _seconds(line["at"]) >= followed.since:
                    self._tell(run, line)
            more = page["next"] is not None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
