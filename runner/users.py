"""Which user a container's processes are: one of a range that no other container of the host has now.

The kernel counts inotify instances, pending signals and timers, pages of pipes, descriptors on their way and more
by user id, whatever the container: with one id for all, what one task takes all the others lack. Nothing in an
image knows these ids, so each container gets an /etc/passwd in which its own has a name and a home.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from pathlib import Path

from cachetools import LRUCache
from samovar import wire

from runner.engine import Engine
from runner.errors import EngineError
from runner.spec import HOME, ContainerKey

#: In the gap that systemd's table of user ids leaves: no user, service, container manager or subuid range is there.
FIRST, LAST = 1_900_000_000, 1_900_065_535
#: Inside of an engine that maps ids there are no more than 65,536; they are other ones on the host anyway.
MAPPED_FIRST, MAPPED_LAST = 20_000, 59_999
#: Where an image has no /etc/passwd that can be read.
_PLAIN = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
_LONGEST_PASSWD = 64 * 1024
_LINE = re.compile(r"[A-Za-z_][A-Za-z0-9_.$-]{0,31}:[^:]*:(\d{1,10}):\d{1,10}:[^:]*:[^:]*:[^:]*")


class OneUser:
    """The same user for every container, the one that images know."""

    async def take(self, container: str, key: ContainerKey) -> int:
        return wire.TASK_UID

    async def passwd(self, container: str, image: str, uid: int) -> Path | None:
        return None

    def adopt(self, container: str, uid: int) -> None: ...

    def give_back(self, container: str) -> None: ...

    def forget_all_but(self, containers: set[str]) -> None: ...

    def of(self, container: str) -> int:
        return wire.TASK_UID


class Users(OneUser):
    """The user ids of this runner's containers, by container; other runners' are seen by the engine's labels."""

    def __init__(self, engine: Engine, state: Path, wanted: tuple[int, int] | None) -> None:
        """`state`: a directory of the host at the path at which the engine sees it."""
        self._engine = engine
        self._directory = state / "users"
        self._wanted = wanted
        self._taken: dict[str, int] = {}
        self._images: LRUCache[str, str] = LRUCache(256)

    async def take(self, container: str, key: ContainerKey) -> int:
        """A user id for a container that is to be. Raises EngineError, also where the range is used up.

        One that writes to a directory of the host is always the same user: the next one has to find its files.
        """
        if any(not read_only for _, _, read_only in key.mounts):
            return wire.TASK_UID
        used = await asyncio.to_thread(self._engine.users) | set(self._taken.values())
        first, last = self._range()
        count = last - first + 1
        at = random.randrange(count)  # so that two runners that look at the same moment hardly meet
        for step in range(count):
            uid = first + (at + step) % count
            if uid not in used:
                self._taken[container] = uid
                return uid
        raise EngineError(f"all user ids from {first} to {last} are taken; widen SAMOVAR_RUNNER_UIDS")

    def adopt(self, container: str, uid: int) -> None:
        """Remembers the user of a container that a former life of this runner has started."""
        self._taken[container] = uid

    def of(self, container: str) -> int:
        return self._taken.get(container, wire.TASK_UID)

    async def passwd(self, container: str, image: str, uid: int) -> Path | None:
        """A file to mount at /etc/passwd: the image's users and `uid`. None: the image knows it."""
        if uid == wire.TASK_UID:
            return None
        if image not in self._images:
            found = await asyncio.to_thread(self._engine.read_file, image, "/etc/passwd", _LONGEST_PASSWD)
            self._images[image] = _users(found)
        path = self._directory / container
        await asyncio.to_thread(self._write, path, self._images[image] + _line(uid))
        return path

    def give_back(self, container: str) -> None:
        """The container is gone."""
        self._taken.pop(container, None)
        (self._directory / container).unlink(missing_ok=True)

    def forget_all_but(self, containers: set[str]) -> None:
        """Takes away the files of containers of a former life."""
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                if path.name not in containers:
                    path.unlink(missing_ok=True)

    def _range(self) -> tuple[int, int]:
        if self._wanted is not None:
            return self._wanted
        return (MAPPED_FIRST, MAPPED_LAST) if self._engine.maps_users else (FIRST, LAST)

    def _write(self, path: Path, text: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        os.chmod(path, 0o644)


def _users(found: bytes | None) -> str:
    """The lines of an image's file that are users, without the one that ours takes the place of.

    The image is a deployer's: a line is kept only where it is one.
    """
    lines = [line for line in (found or b"").decode("utf-8", "replace").splitlines() if _LINE.fullmatch(line)]
    kept = [line for line in lines if not line.startswith("task:")]
    return "".join(f"{line}\n" for line in kept) or _PLAIN


def _line(uid: int) -> str:
    return f"task:x:{uid}:{wire.TASK_UID}:task:{HOME}:/usr/sbin/nologin\n"
