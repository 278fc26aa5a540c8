"""Who holds the memory of a container that comes near its limit: its largest processes, and its scratch folders.

What is written to a tmpfs counts as memory, and belongs to no process: a run that fills /tmp dies of it, and a list
of processes alone would never say why. It is looked at near the limit only: a run that is far from it pays nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

from samovar import wire
from samovar.harness import kernel
from samovar.values.files import read_text
from samovar.wire import Message

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Processes that are looked at, however many a run has made.
_MOST_SEEN = 512
#: Characters of a process's name; the kernel keeps 15 bytes.
_NAME = 32


def look(folders: list[str], names: dict[int, str]) -> Message:
    """`processes`: the largest ones first. `names`: of those that are known; others have the kernel's."""
    return {"scratch": _scratch(folders), "processes": _largest(names)}


def _scratch(folders: list[str]) -> int:
    """Bytes in those folders that are a tmpfs of their own: another file system holds no memory."""
    held = 0
    for folder in _tmpfs() & set(folders):
        with suppress(OSError):
            told = os.statvfs(folder)
            held += (told.f_blocks - told.f_bfree) * told.f_frsize
    return held


def _tmpfs() -> set[str]:
    lines = [line.split(" ") for line in read_text("/proc/self/mounts").splitlines()]
    return {words[1] for words in lines if len(words) > 2 and words[2] == "tmpfs"}


def _largest(names: dict[int, str]) -> list[Message]:
    found = []
    for pid in kernel.processes()[:_MOST_SEEN]:
        words = read_text(f"/proc/{pid}/statm").split()
        if len(words) > 1 and words[1].isdigit() and words[1] != "0":
            found.append((int(words[1]) * _PAGE, pid))
    found.sort(reverse=True)
    return [
        {"pid": pid, "name": names.get(pid) or _name(pid), "memory": memory}
        for memory, pid in found[: wire.HELD_PROCESSES]
    ]


def _name(pid: int) -> str:
    # whatever the process calls itself
    return read_text(f"/proc/{pid}/comm").strip("\n")[:_NAME] or "?"
