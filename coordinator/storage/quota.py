"""What a project, and a run with its descendants, may have; and how much of the disk stays free.

Nothing is counted at each write: what was counted last, and what was added since then, is kept in memory. It is
counted anew once a minute, and where a limit seems to be reached, as often as counting is cheap.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

import structlog
from sqlalchemy import Connection, bindparam, func, select

from coordinator.foundation.errors import StorageUnavailable, TooMuch
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import (
    IS_LIVE,
    attempts,
    checkpoints,
    deliveries,
    deployments,
    events,
    files,
    runs,
    secrets,
)

log = structlog.get_logger()

_AGE = 60.0
#: How many times what a count took passes before the next one.
_PAUSE = 20.0
_MOST = 10_000
_SPACE_AGE = 1.0
#: A result of this size ends its run in any case.
SMALL = 1024

_PROJECT = Prepared(select(runs.c.project).where(runs.c.id == bindparam("run")))
_BYTES = select(func.sum(runs.c.bytes))
#: What stands in rows of its own, and what of it counts.
_KEPT = (
    (events, func.length(events.c.payload)),
    (deliveries, deliveries.c.size + func.length(deliveries.c.headers)),
    (secrets, func.length(secrets.c.data)),
)
_LIVE_LOGS = select(func.sum(attempts.c.log_bytes)).join_from(attempts, runs, attempts.c.run_id == runs.c.id)
_LIVE_CHECKPOINTS = select(func.sum(checkpoints.c.size)).select_from(
    attempts.join(runs, attempts.c.run_id == runs.c.id).join(
        checkpoints, (checkpoints.c.run_id == attempts.c.run_id) & (checkpoints.c.attempt_id == attempts.c.id)
    )
)


class DiskFull(StorageUnavailable):
    """Less of the data directory's disk is free than has to stay so."""

    code = "disk_full"
    retry_after = 10.0


@dataclass
class _Counted:
    value: int
    at: float
    took: float


class Quota:
    """Used from the database's threads. `free`: the bytes that are free on the disk of the data directory."""

    def __init__(
        self,
        data: Path,
        project_bytes: int,
        project_runs: int,
        tree_runs: int,
        least_free: int,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._blobs = data / "blobs"
        self.project_bytes, self.project_runs, self.tree_runs = project_bytes, project_runs, tree_runs
        self.least_free = least_free
        self.free = free or (lambda: shutil.disk_usage(data).free)
        self._lock = Lock()
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._space = (0.0, 0)

    def check_space(self) -> None:
        """Raises DiskFull where nothing new is taken any more; ends of runs and removing go on."""
        at, free = self._space
        if not at or monotonic() - at > _SPACE_AGE:
            before, free = free, self.free()
            self._space = (monotonic(), free)
            if free < self.least_free and (not at or before >= self.least_free):
                log.error("the disk is nearly full: nothing new is taken", free=free, least_free=self.least_free)
            elif at and free >= self.least_free > before:
                log.info("the disk has room again", free=free)
        if free < self.least_free:
            raise DiskFull(
                f"the disk of the data directory has {free} bytes free, and {self.least_free} have to stay free: "
                "nothing new is taken. Make room, or let retention remove more "
                "(SAMOVAR_COORDINATOR_RETENTION_RUNS); runs that are under way end, and what is old can be removed"
            )

    def check_runs(self, conn: Connection, project: str, root: str | None, count: int, size: int) -> None:
        """Lets `count` runs, with values of `size` bytes, be made. Raises TooMuch, DiskFull."""
        self.check_space()
        self._take(
            ("runs", project),
            count,
            self.project_runs,
            lambda: _runs_of(conn, project, self.project_runs),
            f"the project {project} has {{}} runs that have not ended, and the limit is {self.project_runs} "
            "(SAMOVAR_COORDINATOR_PROJECT_RUNS): wait until some have ended, or cancel them with "
            "`samovar runs cancel`",
            "too_many_runs",
        )
        if root is not None:
            self._take(
                ("tree", root),
                count,
                self.tree_runs,
                lambda: _tree_of(conn, root, self.tree_runs),
                f"the run {root} and its descendants are {{}} runs, and the limit is {self.tree_runs} "
                "(SAMOVAR_COORDINATOR_TREE_RUNS): let one run do more of the work",
                "too_many_runs",
            )
        self.check_bytes(conn, project, size)

    def check_bytes(self, conn: Connection, project: str, size: int) -> None:
        """Lets values of `size` bytes be stored. Raises TooMuch, DiskFull."""
        self.check_space()
        if not size:
            return
        self._take(
            ("bytes", project),
            size,
            self.project_bytes,
            lambda: self._bytes_of(conn, project),
            f"the project {project} stores {{}} bytes, and the limit is {self.project_bytes} "
            "(SAMOVAR_COORDINATOR_PROJECT_BYTES): let retention remove runs sooner, or keep large data elsewhere "
            "and pass its name",
            "project_full",
        )

    def known_bytes(self, project: str) -> int | None:
        """What it stored when that was counted last, in bytes, and what was added since; None: not counted yet."""
        with self._lock:
            known = self._counted.get(("bytes", project))
        return None if known is None else known.value

    def _take(
        self, key: tuple[str, str], count: int, limit: int, look: Callable[[], int], message: str, code: str
    ) -> None:
        if not limit:
            return
        with self._lock:
            known = self._counted.get(key)
        now = monotonic()
        over = known is not None and known.value + count > limit
        if known is None or now - known.at > (_PAUSE * known.took if over else max(_AGE, _PAUSE * known.took)):
            value = look()
            known = _Counted(value, monotonic(), monotonic() - now)
            with self._lock:
                if len(self._counted) >= _MOST:
                    self._counted.clear()
                self._counted[key] = known
        if known.value + count > limit:
            raise TooMuch(message.format(known.value), code=code)
        with self._lock:
            known.value += count

    def _bytes_of(self, conn: Connection, project: str) -> int:
        total = int(conn.scalar(_BYTES.where(runs.c.project == project)) or 0)
        for query in (_LIVE_LOGS, _LIVE_CHECKPOINTS):
            total += int(conn.scalar(query.where(IS_LIVE, runs.c.project == project)) or 0)
        uploaded = select(func.sum(files.c.size)).where(files.c.project == project, files.c.run_id.is_(None))
        total += int(conn.scalar(uploaded) or 0)
        for table, size in _KEPT:
            total += int(conn.scalar(select(func.sum(size)).where(table.c.project == project)) or 0)
        named = select(deployments.c.source_blob).where(deployments.c.project == project).distinct()
        for name in conn.scalars(named):
            path = self._blobs / name[:2] / name
            total += path.stat().st_size if path.is_file() else 0
        return total


def of(conn: Connection) -> Quota | None:
    """The limits of the database that the connection is to; None where there are none."""
    found = conn.get_execution_options().get("quota")
    assert found is None or isinstance(found, Quota)
    return found


def check_runs(conn: Connection, project: str, root: str | None, count: int, size: int) -> None:
    if (limits := of(conn)) is not None:
        limits.check_runs(conn, project, root, count, size)


def check_bytes(conn: Connection, now: float, project: str, size: int) -> None:
    if (limits := of(conn)) is not None:
        limits.check_bytes(conn, project, size)


def check_space(conn: Connection) -> None:
    """Raises DiskFull."""
    if (limits := of(conn)) is not None:
        limits.check_space()


def check_bytes_of_run(conn: Connection, run: str, size: int) -> None:
    if (limits := of(conn)) is not None:
        project = conn.scalar(_PROJECT, {"run": run})
        limits.check_bytes(conn, str(project), size)


def _runs_of(conn: Connection, project: str, limit: int) -> int:
    some = select(runs.c.project).where(runs.c.project == project, runs.c.finished_at.is_(None)).limit(limit + 1)
    return int(conn.scalar(select(func.count()).select_from(some.subquery())) or 0)


def _tree_of(conn: Connection, root: str, limit: int) -> int:
    some = select(runs.c.root).where(runs.c.root == root).limit(limit + 1)
    return 1 + int(conn.scalar(select(func.count()).select_from(some.subquery())) or 0)
