"""What the harness asks of Linux: prctl, and what processes there are."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from samovar.values.files import read_text

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


def set_dumpable(on: bool) -> None:
    """Whether other processes of this user may trace this one and read its memory and descriptors."""
    _prctl(_PR_SET_DUMPABLE, int(on), 0, 0, 0)


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process, as they do of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """Get `signal` when the parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)


def trim() -> None:
    """Give back what has been freed: pages that nobody needs are neither held nor copied by a fork."""
    if hasattr(_libc, "malloc_trim"):  # of glibc alone
        _libc.malloc_trim(0)


class OomKiller:
    """Whom the kernel ends first when memory runs out. Where that can't be said, it is whoever has the most."""

    def __init__(self) -> None:
        """Of this process, while it is dumpable: /proc belongs to root in one that is not."""
        self._descriptor = -1
        with suppress(OSError):
            self._descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)

    def offer(self, on: bool = True) -> None:
        """Whether this process is the first. What it forks is as it is then."""
        with suppress(OSError):
            os.write(self._descriptor, b"1000" if on else b"0")

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._descriptor)


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
    fields = rest.split()
    if fields[:1] in ([], ["X"]):
        return False
    # one whose first thread has ended looks dead, while its other threads go on
    return fields[0] != "Z" or int(fields[17]) > 1


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
