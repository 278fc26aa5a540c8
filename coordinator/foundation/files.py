"""Files that survive a power cut."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def make_once(path: Path, content: bytes) -> None:
    """Makes the file `path`, mode 0600 and on disk when this returns, unless it is there already.

    Of several processes that do this at once, one makes the file. Raises OSError.
    """
    # whole before it has its name, so that nobody ever reads half of it
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
        with suppress(FileExistsError):
            os.link(new.name, path)
    sync(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Puts `content` in the place of the file `path`, with mode 0600 and on disk when this returns. Raises OSError.

    Whoever reads it meanwhile reads all of the one or all of the other.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Returns when the file, or the names in the directory, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
