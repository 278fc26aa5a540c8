"""Directories that are their owner's alone: every part keeps what it has in such, and makes files so."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: What no file or directory of Samovar's parts allows to anybody else.
UMASK = 0o077


class NotPrivate(OSError):
    """A directory is open to other users and cannot be made private; the message says what to do."""


def private(path: Path) -> None:
    """Makes `path` where it is not there, and takes from others what they may do in it where it is.

    Raises NotPrivate where it is not ours to tighten, OSError where it cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = path.stat()
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise NotPrivate(f"{path} belongs to user {state.st_uid}, not to this process: give a directory of its own")
    if not mode & UMASK:
        return
    if mode & stat.S_ISVTX:
        # /tmp and the like: others have their files there
        raise NotPrivate(f"{path} is shared by all users (mode {mode:04o}): give a directory inside it")
    try:
        path.chmod(mode & ~UMASK & 0o7777 | 0o700)
    except OSError as error:
        raise NotPrivate(
            f"{path} is open to other users (mode {mode:04o}) and could not be closed ({error.strerror}): "
            f"chmod 700 {path} as its owner, or give another directory"
        ) from None
