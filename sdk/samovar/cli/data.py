"""The data directory of an install on this machine: nobody's but its owner's, and one `samovar up`'s at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from samovar.cli.api import CREDENTIALS, DEFAULT_DATA
from samovar.cli.errors import CliError

#: What nobody but its owner may do with the data directory, or with any file of the parts.
OTHERS = 0o077
#: What a unix socket's path may be long, less what the sidecar puts below the directory.
_SOCKET_PATH = 107
_BELOW = 60
#: How long the children of a supervisor that was killed may take to go.
_PREDECESSOR_TIMEOUT = 30.0
_TICK = 0.1


def data_directory(given: Path | None) -> Path:
    """The data directory, made where it is not there. Raises CliError where it cannot be written."""
    data = (given or Path(os.environ.get("SAMOVAR_DATA") or DEFAULT_DATA)).expanduser().absolute()
    try:
        if not data.is_dir():
            data.mkdir(mode=0o700, parents=True)
        _close(data)
        with tempfile.TemporaryFile(dir=data):
            pass
    except OSError as error:
        raise CliError(
            f"the data directory {data} cannot be written: {error.strerror or error}; give another with --data",
            code="data_unwritable",
        ) from None
    return data


def _close(data: Path) -> None:
    """Take from other users what they may do in the data directory. Raises CliError where it is not ours to."""
    state = data.stat()
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise CliError(
            f"the data directory {data} belongs to user {state.st_uid}; give one of your own with --data",
            code="data_not_private",
        )
    if not mode & OTHERS:
        return
    # a directory that has other things in it is not changed behind the back of whoever keeps them there
    ours = (data / CREDENTIALS).is_file() or not any(data.iterdir())
    if mode & stat.S_ISVTX or not ours:
        raise CliError(
            f"the data directory {data} is open to other users (mode {mode:04o}), and keys and payloads are "
            f"kept in it: chmod 700 it, or give another with --data",
            code="data_not_private",
        )
    data.chmod(mode & ~OTHERS)


@contextlib.contextmanager
def locked(data: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the data directory; gives the lock's descriptor, which the children inherit.

    So the lock is free only when all of them are gone, also where their supervisor was killed. Raises CliError
    where another `samovar up` has it.
    """
    path = data / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline: float | None = None
        while not _try_lock(descriptor):
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            if _alive(owner):
                raise CliError(f"samovar is up already on {data} (process {owner})", code="already_up")
            if deadline is None:
                deadline = time.monotonic() + _PREDECESSOR_TIMEOUT
                say("waiting for the processes of an earlier `samovar up` to end")
            if time.monotonic() > deadline:
                raise CliError(
                    f"processes of an earlier `samovar up` on {data} are still there; end them first "
                    f"(fuser {path} names them)",
                    code="already_up",
                )
            time.sleep(_TICK)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def socket_directory(data: Path) -> Path:
    """A directory for unix sockets whose paths are short enough, the same one for the same data directory."""
    directory = data / "run"
    if len(os.fsencode(directory)) + _BELOW > _SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
        directory = Path("/tmp") / f"samovar-{os.getuid()}-{digest}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        state = directory.lstat()
    except OSError as error:
        raise CliError(f"{directory} cannot be made: {error.strerror or error}", code="no_sockets") from None
    if state.st_uid != os.getuid() or directory.is_symlink():
        raise CliError(f"{directory} belongs to somebody else; remove it", code="no_sockets")
    directory.chmod(0o700)
    return directory


def stored_key(path: Path) -> str | None:
    try:
        key = json.loads(path.read_text("utf-8"))["api_key"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(
            f"{path} cannot be read ({error}); remove it, and a new key is made", code="no_credentials"
        ) from None
    return str(key)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
