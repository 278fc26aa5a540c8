"""What an error of the system means in a task's container, and which option changes it."""

from __future__ import annotations

import errno
import os

from samovar.values.files import read_text
from samovar.values.tracebacks import describe

_PIDS = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")
#: Errors that led to one another, at most.
_DEEPEST = 5


def with_hint(error: BaseException, importing: bool = False) -> str:
    """The message of `error`, with what it means here where that is known. `importing`: no run has begun yet."""
    found = hint(error) or _reaching(error, importing)
    return describe(error) if found is None else f"{describe(error)} ({found})"


def hint(error: BaseException) -> str | None:
    """What `error`, or an error that led to it, means in a container."""
    for _ in range(_DEEPEST):
        if (found := _of(error)) is not None:
            return found
        following = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if following is None:
            return None
        error = following
    return None


def _reaching(error: BaseException, importing: bool) -> str | None:
    from samovar.values import reaching

    try:
        return reaching.hint(error, importing)
    except Exception:  # what it looks at are a library's own objects: their oddities cost the hint alone
        return None


def _of(error: BaseException) -> str | None:
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _processes()
    if not isinstance(error, OSError):
        return None
    path = error.filename if isinstance(error.filename, str) else None
    if error.errno == errno.ENOENT and path and not os.path.isabs(path):
        return f"a relative path: it was looked for in {_folder()}, with the project's files as they were deployed"
    if error.errno == errno.EROFS:
        return f"the project's folder and the system are read-only: write to {_scratch()} or the home folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(path)
    if error.errno == errno.EAGAIN and path is None:
        return _processes()
    return None


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "a folder that is gone"


def _scratch() -> str:
    return f"$TMPDIR ({os.environ.get('TMPDIR', '/tmp')})"


def _full(path: str | None) -> str | None:
    try:
        found = os.statvfs(os.path.dirname(os.path.abspath(path)) if path else os.environ.get("TMPDIR", "/tmp"))
    except OSError:
        return None
    size = found.f_blocks * found.f_frsize / 1024**2
    what = f"{found.f_files} files and folders" if found.f_files and not found.f_ffree else f"{size:.0f} MiB"
    return (
        f'scratch is full: it holds {what}, out of the memory; ask for more with @task(scratch="...", memory="...")'
    )


def _processes() -> str | None:
    """Where the container's limit of processes and threads is reached."""
    for folder in _PIDS:
        most = _number(f"{folder}/pids.max")
        if most:
            # how often it was reached: by now the threads may have ended
            if not read_text(f"{folder}/pids.events").partition("max ")[2].strip().strip("0"):
                return None
            return f"the container may have {most} processes and threads at once; ask for more with @task(pids=...)"
    return None


def _number(path: str) -> int:
    text = read_text(path).strip()
    return int(text) if text.isdigit() else 0
