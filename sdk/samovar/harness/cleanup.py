"""After a run: nothing of it stays. Every process is killed, scratch folders are emptied, leftovers counted."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress

from samovar.harness import kernel

#: Seconds that helpers of a finished run (a resource tracker, say) have to end by themselves.
_LEAVE = 0.1
#: Seconds after which killing gives up: the container is then reported as not clean.
_GIVE_UP = 5.0


def reap() -> dict[int, int]:
    """Collect ended children: pid → wait status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


class Processes:
    """The processes that a run may have left: all in the container, or (in tests) all descendants."""

    def __init__(self, everything: bool, keep: tuple[int, ...], alone: Callable[[], bool] = lambda: False) -> None:
        """`keep`: what stays. `alone`: whether the kernel counts nothing but that and this process."""
        self._everything = everything
        self._keep = keep
        self._alone = alone
        #: Ended children met while waiting, for whoever looks for one of them.
        self.ended: dict[int, int] = {}

    def living(self) -> list[int]:
        """Pids of what is left, without this process and the zygote. Dead ones not yet collected don't count."""
        if self._alone():
            return []  # asked first: a list of processes takes ten times as long, for as many as there never are
        own = os.getpid()
        candidates = kernel.processes() if self._everything else kernel.descendants(own)
        left = [pid for pid in candidates if pid not in (own, *self._keep) and kernel.is_alive(pid)]
        self.ended.update(reap())  # last: of what has died meanwhile, nothing stays either
        return left

    def wait_for_leaving(self) -> None:
        """Give what is left a moment to end by itself."""
        deadline = time.monotonic() + _LEAVE
        while self.living() and time.monotonic() < deadline:
            time.sleep(0.005)

    def kill(self) -> tuple[int, bool]:
        """SIGKILL until none is left: how many there were, and whether all are gone."""
        seen: set[int] = set()
        deadline = time.monotonic() + _GIVE_UP
        while True:
            if self._everything and not self._alone():
                # all at once: a chain of forks can't be caught by reading a list, but a stopped one stands still.
                # What stays is stopped too, and goes on when this is over
                _send(-1, signal.SIGSTOP)
            living = self.living()
            if not living or time.monotonic() > deadline:
                for pid in self._keep:
                    _send(pid, signal.SIGCONT)
                return len(seen), not living
            for pid in living:
                _send(pid, signal.SIGKILL)
            seen.update(living)
            time.sleep(0.001)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


#: Of what the imports have made in a scratch folder, by its path below it: what tells that it is as it was.
Kept = dict[str, tuple[int, ...]]
#: More than this is not remembered, and so not kept.
_MOST_KEPT = 10_000
#: Nanoseconds after which a change of a folder has another time than the one before: the kernel's clock for it goes
#: by steps of up to 10 ms.
_STEP = 100_000_000


class Scratch:
    """The scratch folders of a container.

    A folder that was empty, and that has the times it had then, is empty: whatever is put into a folder, or done to
    it, sets the time of its change (ctime) to now, and no program can set that to anything else. It is looked into
    all the same while that time is as young as the clock's steps, in which a second change would have it too.
    """

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders
        #: What was there before any run: the modules made it, and may come back to it in each run.
        self._kept: dict[str, Kept] = {}
        self._attributes: dict[str, list[str]] = {}
        #: Of a folder that was empty: what it was like then, and whether any change since would show in that.
        self._stamps: dict[str, tuple[tuple[int, ...], bool]] = {}

    def remember(self) -> None:
        """Before the first run: what is there now is what stays."""
        for folder in self._folders:
            self._kept[folder] = _look(folder)
            self._attributes[folder] = _attributes(folder)
            self._note(folder)

    def wipe(self) -> int:
        """Empty them but for what was made at import; how many entries are not as they should be.

        What a run has changed of the latter counts: the next one would find it.
        """
        wrong = 0
        for folder in self._folders:
            stamp, settled = self._stamps.get(folder, ((), False))
            same = stamp and stamp == _stamp(folder)
            if same and settled:
                continue
            if not same or not self._is_empty(folder):
                wrong += _wipe(folder, self._kept.get(folder, {}))
            self._note(folder)
        return wrong

    def _note(self, folder: str) -> None:
        self._stamps.pop(folder, None)
        if self._kept.get(folder, {}).keys() == {"."} and self._is_empty(folder):
            stamp = _stamp(folder)
            self._stamps[folder] = stamp, bool(stamp) and stamp[-1] < time.time_ns() - _STEP

    def _is_empty(self, folder: str) -> bool:
        try:
            return not os.listdir(folder) and _attributes(folder) == self._attributes.get(folder)
        except OSError:
            return False


def _attributes(folder: str) -> list[str]:
    try:
        return os.listxattr(folder)
    except OSError:  # a file system without any
        return []


def _stamp(folder: str) -> tuple[int, ...]:
    """What can't stay as it is where the folder is touched: who it is, and when it was read and changed last."""
    try:
        found = os.lstat(folder)
    except OSError:
        return ()
    return (
        found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_size,
        found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns,
    )  # fmt: skip


def _look(folder: str) -> Kept:
    """What is in a folder, and under "." its own mode. No program can set a time of change (ctime)."""
    try:
        own: Kept = {".": (stat.S_IMODE(os.lstat(folder).st_mode),)}
    except OSError:
        return {}
    found = dict(own)
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            full = os.path.join(path, name)
            with suppress(OSError):
                entry = os.lstat(full)
                size = 0 if stat.S_ISDIR(entry.st_mode) else entry.st_size
                made = (entry.st_ino, entry.st_mode, size, entry.st_mtime_ns, entry.st_ctime_ns)
                found[os.path.relpath(full, folder)] = made
        if len(found) > _MOST_KEPT:
            return own
    return found


def _wipe(folder: str, before: Kept) -> int:
    if not before:
        return _empty(folder, set())
    wrong = _empty(folder, {path.partition("/")[0] for path in before}, *before["."])
    now = _look(folder)
    return wrong + sum(1 for path in {*before, *now} if before.get(path) != now.get(path))


def _empty(folder: str, spared: set[str], mode: int | None = None) -> int:
    """Empty one folder but for some entries, whatever permissions, depth and names a run has left in it; its
    own `mode` is what it was.

    A folder inside is emptied by moving its own folders up beside it, so that depth costs neither
    recursion nor descriptors nor a path too long for the kernel.
    """
    try:
        top = _open(folder)
    except FileNotFoundError:
        return 0  # there is no such folder in this container
    except OSError:
        return 1  # what is in a folder that can't be opened is still there
    failed: set[str] = set()
    moved = 0
    try:
        with suppress(OSError):  # a file system without such attributes
            for name in os.listxattr(top):
                with suppress(OSError):  # one that the system needs
                    os.removexattr(top, name)
        while True:
            names = [name for name in os.listdir(top) if name not in failed and name not in spared]
            if not names:
                if os.fstat(top).st_uid == os.geteuid():
                    if mode is not None:
                        os.fchmod(top, mode)
                    os.utime(top)
                return len(failed)
            for name in names:
                try:
                    if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                        os.unlink(name, dir_fd=top)
                        continue
                    os.chmod(name, 0o700, dir_fd=top)
                    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                    try:
                        moved = _flatten(inner, top, moved)
                    finally:
                        os.close(inner)
                    os.rmdir(name, dir_fd=top)
                except OSError:
                    failed.add(name)
    finally:
        os.close(top)


def _open(folder: str) -> int:
    """A scratch folder, opened; one of this user's own that the run has closed is opened to its owner again."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    found = os.lstat(folder)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
        os.chmod(folder, stat.S_IMODE(found.st_mode) | 0o700)
    return os.open(folder, flags)


def _flatten(inner: int, top: int, moved: int) -> int:
    """Unlink the files of `inner` and move its folders into `top` under new names; the last number used."""
    for name in os.listdir(inner):
        if stat.S_ISDIR(os.lstat(name, dir_fd=inner).st_mode):
            os.chmod(name, 0o700, dir_fd=inner)  # moving a folder writes to it
            moved += 1
            os.rename(name, f".samovar-wipe-{os.getpid()}-{moved}", src_dir_fd=inner, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=inner)
    return moved
