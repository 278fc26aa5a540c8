"""What process 1 asks the kernel in every run: counters of its cgroup, and how it and the zygote stand.

Each file is opened once and read where it stands: to open one of /proc or of a cgroup takes twenty times as long as
to read it. A cgroup is of version 1 or 2, or not to be seen at all, as in some sandboxes: what isn't told is 0.
"""

from __future__ import annotations

import os
from contextlib import suppress

_V1 = "/sys/fs/cgroup"
_V2 = "/sys/fs/cgroup"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST = 16 * 1024


class Gauges:
    """The cgroup of this container, by its files."""

    def __init__(self) -> None:
        self._tasks = _File(f"{_V1}/pids/pids.current", f"{_V2}/pids.current")
        self._oom = _File(f"{_V1}/memory/memory.oom_control", f"{_V2}/memory.events")
        self._limit = _File(f"{_V1}/memory/memory.limit_in_bytes", f"{_V2}/memory.max")
        self._highest = _File(f"{_V1}/memory/memory.max_usage_in_bytes", f"{_V2}/memory.peak")
        self._stat = _File(f"{_V1}/memory/memory.stat", f"{_V2}/memory.stat")

    def tasks(self) -> int:
        """Processes and threads, those that are dead and not collected included; 0 where it is not told."""
        return self._tasks.number()

    def oom_kills(self) -> int:
        """How many processes of this cgroup the kernel has ended for want of memory."""
        return _field(self._oom.read(), b"oom_kill")

    def memory_limit(self) -> int:
        """In bytes; 0 where there is none."""
        limit = self._limit.number()
        return 0 if limit >= 1 << 60 else limit

    def highest_memory(self) -> int:
        """The most memory the cgroup has ever had, file cache included, in bytes."""
        return self._highest.number()

    def unreclaimable_memory(self) -> int:
        """Bytes the cgroup's processes and tmpfs hold now, without file cache."""
        told = self._stat.read()
        return (_field(told, b"rss") or _field(told, b"anon")) + _field(told, b"shmem")


class Watched:
    """A process whose start, or that of what it forks, others of the same user could change from outside."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._limits = _File(f"/proc/{pid}/limits")
        self._memory = _File(f"/proc/{pid}/statm")

    def standing(self) -> tuple[object, ...]:
        """Its limits, processors and priority; empty where it is gone."""
        pid = self._pid
        try:
            scheduling = (
                os.sched_getaffinity(pid), os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)
            )  # fmt: skip
        except OSError:
            return ()
        return (self._limits.read(), *scheduling)

    def resident_memory(self) -> int:
        """In bytes; 0 where it is gone."""
        words = self._memory.read().split()
        return int(words[1]) * _PAGE if len(words) > 1 else 0


class _File:
    """The first of these paths that can be opened."""

    def __init__(self, *paths: str) -> None:
        self._descriptor: int | None = None
        for path in paths:
            with suppress(OSError):
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                return

    def read(self) -> bytes:
        if self._descriptor is None:
            return b""
        try:
            return os.pread(self._descriptor, _MOST, 0)
        except OSError:  # the process that it tells of is gone
            return b""

    def number(self) -> int:
        text = self.read().strip()
        return int(text) if text.isdigit() else 0


def _field(lines: bytes, name: bytes) -> int:
    """The number beside a name, of lines with one each."""
    place = (b"\n" + lines).find(b"\n" + name + b" ")
    if place < 0:
        return 0
    number = lines[place + len(name) + 1 :].split(None, 1)[:1]
    return int(number[0]) if number and number[0].isdigit() else 0
