"""Locks that hold between threads, processes and installations that share one Docker engine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from images.errors import BuildError


@contextlib.contextmanager
def hold(name: str) -> Iterator[None]:
    """Hold the lock `name` against everybody on this host who runs as the same user.

    The locks are outside any data directory because two installations, say a developer's and a test suite's,
    build into the same engine under the same names. A lock ends with the process that holds it.
    """
    path = _directory() / (re.sub(r"[^a-zA-Z0-9_.-]", "-", name) + ".lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _directory() -> Path:
    directory = Path(tempfile.gettempdir()) / f"samovar-locks-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    state = directory.lstat()
    if directory.is_symlink() or state.st_uid != os.getuid():
        raise BuildError(
            f"{directory} belongs to somebody else, so build locks cannot be kept there; remove it",
            code="lock_directory",
        )
    return directory
