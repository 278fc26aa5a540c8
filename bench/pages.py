"""How long the dashboard's pages take, and the lists behind them, on a database that has grown for a long time."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from bench.coordinator import DATABASES, filled
from bench.figures import Outcome, Series, Target
from bench.seeding import Places, Sizes, counted, seed
from tests.unit.coordinator.conftest import ADMIN, HOST, Api

#: Milliseconds of one page, and KiB of it packed.
PAGE_MS, PAGE_P99_MS, PAGE_KIB = 100.0, 200.0, 45.0
FULL, QUICK, LEAST = Sizes(), Sizes(2_000, 5_000, 20), Sizes(1_000, 1_000, 4)
#: How many of the pairs of filters are shown by themselves: the slowest.
_SHOWN = 5


class Address(NamedTuple):
    """A page, and what stands for it in the API; braces are filled from seeding.Places."""

    page: str
    api: str | None


PAGES = (
    Address("/", "/runs?limit=50"),
    Address("/runs", "/runs"),
    Address("/runs?status=failed", "/runs?status=failed"),
    Address("/runs?status=failed&task={quiet}", "/runs?status=failed&task={quiet}"),
    Address("/runs?status=failed&task={busy}", "/runs?status=failed&task={busy}"),
    Address("/runs/{run}", "/runs/{run}"),
    Address("/runs/{run}/logs", "/runs/{run}/logs"),
    Address("/runs/{loud}/logs", "/runs/{loud}/logs"),
    Address("/runs/{loud}/logs?text=nowhere", "/runs/{loud}/logs?text=nowhere"),
    Address("/runs/{loud}/logs?level=error", "/runs/{loud}/logs?level=error"),
    Address("/runs/{run}/checkpoints", "/runs/{run}/checkpoints"),
    Address("/tasks", None),
    Address("/tasks/{project}/{busy}", None),
    Address("/errors", None),
    Address("/dead-letters", "/runs?dead_letter=true"),
    Address("/queues", "/queues"),
    Address("/schedules", "/schedules"),
    Address("/deployments", "/deployments"),
    Address("/pool", "/pool"),
    Address("/audit", "/audit"),
    Address("/system", None),
)
#: What `/runs` is narrowed by: each value with each of every other filter.
FILTERS = {
    "status": ("completed", "failed", "queued", "expired"),
    "task": ("{busy}", "{quiet}", "{rare}"),
    "project": ("{project}", "{small}"),
    "tag": ("{common_tag}", "{rare_tag}"),
    "since": ("1h", "1d", "7d"),
    # without an index
    "origin": ("api", "schedule"),
    "start": ("cold",),
    "longer": ("10s",),
    "ended": ("1d",),
    "text": ("nowhere",),
}


def pairs() -> Iterator[str]:
    """Addresses of `/runs` with two filters, for page and API alike."""
    for (first, values), (second, others) in itertools.combinations(FILTERS.items(), 2):
        for value, other in itertools.product(values, others):
            yield f"/runs?{first}={value}&{second}={other}"


def pages(count: int, sizes: Sizes = FULL) -> list[Outcome]:
    """`count` requests for each page, and a fifth of that for each pair of filters, on each database."""
    return [outcome for kind in DATABASES for outcome in _measured(kind, count, sizes)]


def _measured(kind: str, count: int, sizes: Sizes) -> list[Outcome]:
    began = time.monotonic()

    def fill(url: str) -> tuple[Places, dict[str, int]]:
        return seed(url, sizes), counted(url)

    with filled(kind, fill) as (api, (places, rows), process):
        notes = [
            f"{', '.join(f'{number:,} {table}' for table, number in rows.items())}: "
            f"made in {time.monotonic() - began:.0f} s"
        ]
        reader = Reader(api)
        if not reader.signed_in:
            notes.append("there is no dashboard: asked for are the lists of the API that its pages would show")
        shown = _series(reader, [page if reader.signed_in else listed for page, listed in PAGES], places, notes)
        narrowed = _series(reader, list(pairs()), places, notes)
        for number in range(count):
            # or the host would be away, and its containers with it
            api.runner.post("/internal/v1/runners/bench/heartbeat", json=_beat()).raise_for_status()
            _round(reader, shown, process)
            if number % 5 == 0:
                _round(reader, narrowed, process)
        reader.close()
    return [_times(kind, shown, narrowed, notes), _work(kind, shown), _bytes(kind, shown)]


class _Asked(NamedTuple):
    """An address with what it took, and what of that the coordinator worked, in milliseconds; KiB, packed."""

    address: str
    took: Series
    worked: Series
    size: Series


def _series(reader: Reader, addresses: list[str | None], places: Places, notes: list[str]) -> list[_Asked]:
    """Those that are there; each is asked for once, which is not counted: the first builds what all then use."""
    made = []
    for address in addresses:
        if address is None:
            continue
        filled = reader.prefix + address.format(**places._asdict())
        status, _, _ = reader.get(filled)
        if status == 200:
            made.append(_Asked(filled, Series(address, "ms"), Series(address, "ms"), Series(address, "KiB")))
        else:
            notes.append(f"not measured: {address} ({status})")
    return made


def _round(reader: Reader, asked: list[_Asked], process: int) -> None:
    for address, took, worked, size in asked:
        before = _worked(process)
        status, milliseconds, count = reader.get(address)
        if status != 200:
            raise RuntimeError(f"{address} answered {status}")
        worked.add(_worked(process) - before)
        took.add(milliseconds)
        size.add(count / 1024)


def _worked(process: int) -> float:
    """Milliseconds that the threads of a process have had a processor."""
    total = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e6


def _times(kind: str, shown: list[_Asked], narrowed: list[_Asked], notes: list[str]) -> Outcome:
    each = [asked.took for asked in shown]
    by_pair = sorted((asked.took for asked in narrowed), key=lambda series: -series.percentile(95))
    together = Series(
        f"/runs with two filters: {len(by_pair)} pairs", "ms", [s for pair in by_pair for s in pair.samples]
    )
    targets = []
    for name, series in (("page", each), ("pair of filters", by_pair)):
        worst, worst99 = (max(series, key=lambda one, p=p: one.percentile(p)) for p in (95, 99))  # type: ignore[misc]
        targets.append(Target(f"slowest {name} ({worst.name}), p95", worst.percentile(95), PAGE_MS, "ms"))
        targets.append(Target(f"slowest {name} ({worst99.name}), p99", worst99.percentile(99), PAGE_P99_MS, "ms"))
    what = f"pages on {kind}: from the request to the last byte of the answer"
    return Outcome("pages", what, [*each, together, *by_pair[:_SHOWN]], [], targets, notes=notes)


def _work(kind: str, shown: list[_Asked]) -> Outcome:
    """What says something of a page also where others use the machine; PostgreSQL's own work is not in it."""
    what = f"pages on {kind}: processor time of the coordinator meanwhile, its duties with it"
    return Outcome("pages", what, [asked.worked for asked in shown], [])


def _bytes(kind: str, shown: list[_Asked]) -> Outcome:
    sizes = [asked.size for asked in shown]
    worst = max(sizes, key=lambda series: series.median)
    target = Target(f"largest page ({worst.name})", worst.median, PAGE_KIB, "KiB")
    return Outcome("pages", f"pages on {kind}: bytes, packed by gzip", sizes, [], [target])


class Reader:
    """Asks over one connection that is kept, with as little of a client as there can be; signed in, or by a key."""

    def __init__(self, api: Api) -> None:
        self._http = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=60)
        self._headers = {"Accept-Encoding": "gzip"}
        self.signed_in = self._sign_in(api.url)
        self.prefix = "" if self.signed_in else "/api/v1"
        if not self.signed_in:
            self._headers["Authorization"] = f"Bearer {ADMIN}"

    def get(self, address: str) -> tuple[int, float, int]:
        """The status, the milliseconds until all of it was there, and its bytes as gzip packs them."""
        began = time.perf_counter()
        self._http.request("GET", address, headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read()
        took = 1000 * (time.perf_counter() - began)
        packed = body if answer.headers.get("content-encoding") == "gzip" else gzip.compress(body, 6)
        return answer.status, took, len(packed)

    def close(self) -> None:
        self._http.close()

    def _sign_in(self, url: str) -> bool:
        """By the form, as a browser does."""
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": url, "Sec-Fetch-Site": "same-origin"}
        self._http.request("POST", "/login", urlencode({"key": ADMIN}), form)
        answer = self._http.getresponse()
        answer.read()
        cookie = answer.headers.get("set-cookie")
        if cookie:
            self._headers["Cookie"] = cookie.partition(";")[0]
        return cookie is not None


def _beat() -> dict[str, Any]:
    """A host with fifty containers."""
    states = itertools.cycle(("busy", "idle", "idle", "starting"))
    pool = [
        {
            "container": f"samovar-bench-{number}",
            "project": f"project-{number % 4}",
            "image": f"samovar/project-{number % 4}:1",
            "state": next(states),
            "memory": 64 * 1024**2,
            "runs": number,
            "age": 60.0 * number,
            "task": f"task-{number % 20}",
        }
        for number in range(50)
    ]
    return {**HOST, "task_memory": HOST["memory"], "pool": pool}
