"""Doors of builders: what a step of a build downloads goes through this host's egress, while it lasts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import structlog
from samovar import wire

from coordinator.wire.directories import private
from coordinator.wire.host import BUILDER
from sidecar.egress.child import Child, Reached
from sidecar.egress.records import HostCount
from sidecar.egress.rules import Limits

log = structlog.get_logger()

#: Seconds that a door stays open without being asked for again: who asked may be gone.
LEASE = 30.0


@dataclass
class _Door:
    #: None: of a sidecar before this one, and not asked for again yet.
    reached: Reached | None
    expiry: asyncio.TimerHandle


class Builders:
    """The doors that are open, by the builder's name. A builder has neither an attempt nor a sidecar's socket."""

    def __init__(self, root: Path, egress: Child, lease: float = LEASE) -> None:
        """`lease`: seconds."""
        self._root = root
        self._egress = egress
        self._lease = lease
        self._one = asyncio.Lock()
        self._closing: set[asyncio.Task[list[HostCount]]] = set()
        self._doors: dict[str, _Door] = {}
        # whose builder is still there is asked for again, at the same place; the others go
        for left in root.glob(f"{BUILDER}*"):
            name = left.name.removeprefix(BUILDER)
            self._doors[name] = _Door(None, self._expiry(name))

    async def open(self, name: str, limits: Limits) -> None:
        """Opens a door, or holds an open one open. Raises OSError where nothing listens."""
        async with self._one:
            known = self._doors.get(name)
            directory = self._directory(name)
            if known is None or known.reached is None:
                private(self._root)
                directory.mkdir(parents=True, exist_ok=True)
                # for the builder's user; on the host the directory above keeps everybody out
                directory.chmod(0o755)
            try:
                await self._egress.listen(_key(name), directory / wire.EGRESS_NAME, limits)
            except OSError:
                if known is None:
                    self._clear(name)
                raise
            reached = known.reached if known is not None else None
            if reached is None:
                reached = self._egress.open(_key(name), name, lambda entry: None, lambda: None)
            if known is not None:
                known.expiry.cancel()
            self._doors[name] = _Door(reached, self._expiry(name))

    async def close(self, name: str) -> list[HostCount]:
        """Closes a door, and every connection through it; what was reached."""
        async with self._one:
            door = self._doors.pop(name, None)
            hosts: list[HostCount] = []
            if door is not None:
                door.expiry.cancel()
                if door.reached is not None:
                    await self._egress.close(door.reached)
                    hosts = door.reached.hosts
            self._clear(name)
            return hosts

    def stop(self) -> None:
        """Forgets when doors expire, for this sidecar to end while builders go on."""
        for door in self._doors.values():
            door.expiry.cancel()

    def _clear(self, name: str) -> None:
        self._egress.forget(_key(name))
        with contextlib.suppress(OSError):
            directory = self._directory(name)
            (directory / wire.EGRESS_NAME).unlink(missing_ok=True)
            directory.rmdir()

    def _expiry(self, name: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._lease, self._expire, name)

    def _expire(self, name: str) -> None:
        log.warning("a builder's door is closed: nobody has asked for it again", builder=name)
        task = asyncio.create_task(self.close(name))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _directory(self, name: str) -> Path:
        return self._root / f"{BUILDER}{name}"


def _key(name: str) -> str:
    """As the egress process knows it: no container is called so."""
    return f"builder/{name}"
