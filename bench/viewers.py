"""What it costs that people look on: fifty who follow one run, and two hundred pages left open while runs go by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator

import aiohttp

from bench.bed import Bed, beside, both
from bench.figures import Outcome, Series, Target
from bench.screen import TASKS
from bench.sustained import with_children
from tests.waiting import eventually

#: Percent of one processor.
SHARE = 5.0
_FOLLOWERS, _OPEN = 50, 200
#: Seconds that each is looked at, after so many in which all have come.
_COMING = 5.0
#: A key may hold no more streams than about a hundred at once.
_OF_A_KEY = 100
#: Pages that stand open: each of these for as many as it takes.
_PAGES = (
    *("/", "/runs", "/runs?status=failed", "/runs?status=completed", "/tasks", "/queues", "/pool", "/errors"),
    *("/deployments", "/schedules", "/events", "/webhooks", "/tokens", "/hosts", "/dead-letters", "/bulk"),
    *("/tasks?window=7d", "/audit", "/runs?start=cold", "/tasks/{project}/short"),
)


def viewers(here: Bed, count: int) -> list[Outcome]:
    """`count` seconds each: nobody looks on, then the followers of a run that prints five lines a second, its page
    and its log; then open pages, while a run is made each second.
    """
    found = []
    for kind, there in both(here):
        with beside(there, TASKS) as project, there.samovar.client() as client:
            run = client.trigger(f"{project.name}/ticks", {"count": 5 * (3 * count + 120)}).id
            page, log = f"/live?of=/runs/{run}", f"/runs/{run}/logs/live"
            alone = _share(there, count)
            shares = []
            for path in (page, log):
                with _looking(there, [path] * _FOLLOWERS):
                    shares.append(_share(there, count) - alone)
            there.samovar.cli("runs", "cancel", run)
            with _runs_go_by(there, f"{project.name}/short"):
                quiet = _share(there, count)
                pages = [path.format(project=project.name) for path in _PAGES]
                opened = [f"/live?of={pages[number % len(pages)]}" for number in range(_OPEN)]
                with _looking(there, opened):
                    shares.append(_share(there, count) - quiet)
                hidden = _share(there, count) - quiet
        found.append(_outcome(kind, count, [*shares, hidden], alone, quiet))
    return found


def _outcome(kind: str, count: int, shares: list[float], alone: float, quiet: float) -> Outcome:
    names = (f"{_FOLLOWERS} on a run's page", f"{_FOLLOWERS} on its log", f"{_OPEN} open pages", "all hidden")
    series = [Series(name, "%", [share]) for name, share in zip(names, shares, strict=True)]
    targets = [Target(name, share, SHARE, "%") for name, share in zip(names[:3], shares, strict=False)]
    return Outcome(
        f"viewers: {kind}",
        "of one processor, what the coordinator takes more of it than with nobody looking on",
        series,
        [],
        targets,
        notes=[
            f"with nobody: {alone:.1f} % beside the run, {quiet:.1f} % beside a run each second, over {count} s"
        ],
    )


def _share(bed: Bed, seconds: int) -> float:
    """Percent of a processor that the coordinator takes."""
    time.sleep(_COMING)
    pid = bed.samovar.pids()["coordinator"]
    before, began = with_children(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (with_children(pid) - before) / (time.monotonic() - began)


@contextlib.contextmanager
def _runs_go_by(bed: Bed, task: str) -> Iterator[None]:
    """A run each second, until the block ends."""
    over = threading.Event()

    def trigger() -> None:
        with bed.samovar.client() as client:
            while not over.wait(1.0):
                client.trigger(task)

    thread = threading.Thread(target=trigger)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _looking(bed: Bed, paths: list[str]) -> Iterator[None]:
    """A stream of each, read until the block ends, which begins when each has brought something."""
    given = json.loads((bed.samovar.data / "credentials.json").read_text())
    heard = [0] * len(paths)
    over = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def follow(session: aiohttp.ClientSession, number: int) -> None:
        async with session.get(paths[number], allow_redirects=False) as answer:
            assert answer.status == 200, f"{paths[number]}: {answer.status}"
            async for line in answer.content:
                heard[number] += line.startswith(b"data:")

    async def look() -> None:
        async with contextlib.AsyncExitStack() as stack:
            following = []
            for first in range(0, len(paths), _OF_A_KEY):
                session = await stack.enter_async_context(_session(given["url"]))
                key = given["api_key"] if first == 0 else await asyncio.to_thread(_another_key, bed, first)
                await session.post("/login", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"})
                for number in range(first, min(first + _OF_A_KEY, len(paths))):
                    following.append(asyncio.ensure_future(follow(session, number)))
            stopped = asyncio.ensure_future(over.wait())
            await asyncio.wait([stopped, *following], return_when=asyncio.FIRST_COMPLETED)
            failed = [one.exception() for one in following if one.done() and one.exception()]
            for one in following:
                one.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            if failed:
                raise failed[0] or AssertionError

    thread = threading.Thread(target=lambda: loop.run_until_complete(look()))
    thread.start()
    try:
        eventually(lambda: all(heard) or not thread.is_alive(), "each stream to bring something", 120)
        assert thread.is_alive(), "a stream has ended"
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def _session(url: str) -> aiohttp.ClientSession:
    # lines of a stream hold whole pages
    return aiohttp.ClientSession(
        url,
        cookie_jar=aiohttp.CookieJar(unsafe=True),  # of an address without a name
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=2**22,
    )


def _another_key(bed: Bed, number: int) -> str:
    made = bed.samovar.cli("keys", "create", f"viewer-{number}", "--role", "read")
    return str(made["key"])
