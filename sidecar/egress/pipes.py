"""Pipes through which the kernel passes bytes on without this process reading them (splice)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass

#: Bytes that one holds: as many as a step passes on.
SIZE = 1024 * 1024
#: Pipes that are there at once, over all containers and of one: the kernel lets a user have 64 MiB of them.
_MOST = 48
_OF_ONE = 16
#: Empty ones that are kept for the next step.
_KEPT = 4

_NONBLOCK = os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Pipe:
    reading: int
    writing: int
    #: Bytes in it.
    left: int = 0

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Pipes:
    """Lends pipes for a step; one in which something is left stays with who has it."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._lent: dict[str, int] = {}
        self._count = 0

    def take(self, owner: str) -> Pipe | None:
        """An empty one; None where there are too many already: bytes go on without."""
        if self._lent.get(owner, 0) >= _OF_ONE:
            return None
        pipe = self._idle.pop() if self._idle else self._made()
        if pipe is not None:
            self._lent[owner] = self._lent.get(owner, 0) + 1
        return pipe

    def give(self, owner: str, pipe: Pipe) -> None:
        """Back: one with something in it is not used again."""
        left = self._lent.pop(owner) - 1
        if left:
            self._lent[owner] = left
        if pipe.left or len(self._idle) >= _KEPT:
            self._count -= 1
            pipe.close()
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        for pipe in self._idle:
            pipe.close()
        self._idle.clear()

    def _made(self) -> Pipe | None:
        if self._count >= _MOST:
            return None
        try:
            pipe = Pipe(*os.pipe2(_NONBLOCK))
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, SIZE) >= SIZE:
                self._count += 1
                return pipe
        pipe.close()
        return None
