"""How much of the host's disk a builder takes, looked at while it runs: storage drivers have no limit for one.

Where this process sees the engine's directories it counts what is in the container's own layer, bytes and files;
else the engine is asked, which counts bytes alone and takes seconds for it. Bytes are those that files take: what a
sparse file becomes on the way out is limited there (images/archive.py).
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

#: Seconds between two looks, and how many times its own duration a look waits for the next.
_PAUSE, _SHARE = 0.3, 8
#: Bytes that stay free on the host, whatever a builder may have.
_FLOOR = 1024**3
#: Directories in directories; deeper ones could not be named any more, and so not be counted.
_DEEPEST = 100


class Watch:
    """Looks again and again, in a thread, until it is closed; past a limit it calls `end` once and says why."""

    def __init__(
        self,
        roots: list[Path],
        ask: Callable[[], int] | None,
        *,
        most_bytes: int,
        most_files: int,
        end: Callable[[], None],
    ) -> None:
        self.overran = ""
        self._roots, self._ask, self._end = roots, ask, end
        self._bytes, self._files = most_bytes, most_files
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; one last look is taken, so that what was written at the very end counts too."""
        self._closed.set()
        self._thread.join()
        if not self.overran and self._roots:
            self.overran = self._look()

    def _run(self) -> None:
        pause = _PAUSE
        while not self._closed.wait(pause):
            began = os.times().elapsed
            self.overran = self._look()
            if self.overran:
                self._end()
                return
            pause = max(_PAUSE, _SHARE * (os.times().elapsed - began))

    def _look(self) -> str:
        said = measure(self._roots, most_bytes=self._bytes, most_files=self._files)
        if not said and self._ask is not None and self._ask() > self._bytes:
            return _too_many_bytes(self._bytes)
        return said


def measure(roots: list[Path], *, most_bytes: int, most_files: int) -> str:
    """What is too much below `roots`, in words; empty where nothing is."""
    taken = files = 0
    #: Files with several names, which take their bytes once.
    linked: set[tuple[int, int]] = set()
    for root in roots:
        try:
            if shutil.disk_usage(root).free < _FLOOR:
                return "the host's disk is all but full"
        except OSError:
            continue
        ahead: list[tuple[str, int]] = [(str(root), 0)]
        while ahead:
            path, depth = ahead.pop()
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        files += 1
                        state = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            ahead.append((entry.path, depth + 1))
                        elif state.st_nlink > 1:
                            known = (state.st_dev, state.st_ino) in linked
                            linked.add((state.st_dev, state.st_ino))
                            taken -= state.st_blocks * 512 if known else 0
                        taken += state.st_blocks * 512
                        if files > most_files:
                            return f"more than {most_files} files"
                        if taken > most_bytes:
                            return _too_many_bytes(most_bytes)
            except OSError as error:
                # what goes while it is counted is no matter
                if error.errno == errno.ENAMETOOLONG:
                    depth = _DEEPEST
            if depth >= _DEEPEST:
                return f"directories nested deeper than {_DEEPEST}"
    return ""


def stretch(root: Path, most: int) -> int:
    """Bytes of the files below `root` with the holes of sparse ones; counted no further than past `most`."""
    total = 0
    ahead = [str(root)]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                        if total > most:
                            return total
        except OSError:
            continue  # one that cannot be read, or not be named any more: what comes out is counted as well
    return total


def _too_many_bytes(most: int) -> str:
    return f"more than {most // 1024**2} MiB of disk"
