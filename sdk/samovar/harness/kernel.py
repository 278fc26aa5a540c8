"""What the harness asks of Linux: prctl, the memory cgroup's counters, /proc."""

from __future__ import annotations

import ctypes
import os

from samovar.values.files import read_text

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Where a container sees its own memory cgroup: version 1, then version 2.
_V1 = "/sys/fs/cgroup/memory"
_V2 = "/sys/fs/cgroup"


def set_dumpable(on: bool) -> None:
    """Whether other processes of this user may trace this one and read its memory and descriptors."""
    _prctl(_PR_SET_DUMPABLE, int(on), 0, 0, 0)


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process, as they do of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """Get `signal` when the parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)


def offer_to_oom_killer() -> None:
    """Make this process the first that the kernel ends when memory runs out."""
    try:
        # without a text file: that would load its codec in each run, a millisecond before the user's first line
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1000")
        finally:
            os.close(descriptor)
    except OSError:
        pass  # not fatal: the container is over its limit either way


def count_oom_kills() -> int:
    """How many processes of this cgroup the kernel has ended for want of memory."""
    return max(_field(f"{_V1}/memory.oom_control", "oom_kill"), _field(f"{_V2}/memory.events", "oom_kill"))


def memory_limit() -> int:
    """The cgroup's memory limit in bytes; 0 where there is none to be read."""
    limit = _number(f"{_V1}/memory.limit_in_bytes") or _number(f"{_V2}/memory.max")
    return 0 if limit >= 1 << 60 else limit


def highest_memory() -> int:
    """The most memory the cgroup has ever had, file cache included, in bytes; 0 where it is not told."""
    return _number(f"{_V1}/memory.max_usage_in_bytes") or _number(f"{_V2}/memory.peak")


def unreclaimable_memory() -> int:
    """Bytes the cgroup's processes and tmpfs hold now, without file cache; 0 where it is not told."""
    for path, names in ((f"{_V1}/memory.stat", ("rss", "shmem")), (f"{_V2}/memory.stat", ("anon", "shmem"))):
        total = sum(_field(path, name) for name in names)
        if total:
            return total
    return 0


def resident_memory(*pids: int) -> int:
    """Resident bytes of these processes together."""
    total = 0
    for pid in pids:
        words = read_text(f"/proc/{pid}/statm").split()
        if len(words) > 1:
            total += int(words[1]) * _PAGE
    return total


def standing(pid: int) -> tuple[object, ...]:
    """What others of the same user may change of a process from outside: its limits, processors, priority."""
    try:
        scheduling = (os.sched_getaffinity(pid), os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid))
    except OSError:  # it is gone
        return ()
    return (read_text(f"/proc/{pid}/limits"), *scheduling)


def processes() -> list[int]:
    """Every process in sight."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for thread in _list(f"/proc/{parent}/task"):
            children = [int(word) for word in read_text(f"/proc/{parent}/task/{thread}/children").split()]
            found += children
            waiting += children
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not dead with its status yet to be collected."""
    # the command name, in parentheses, may hold anything; what follows the last one is plain
    _, _, rest = read_text(f"/proc/{pid}/stat").rpartition(")")
    return rest.split()[:1] not in ([], ["Z"], ["X"])


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _number(path: str) -> int:
    text = read_text(path).strip()
    return int(text) if text.isdigit() else 0


def _field(path: str, name: str) -> int:
    for line in read_text(path).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0
