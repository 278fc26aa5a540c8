"""Names to addresses: a hosts file first, then the system, in a few threads and each with a deadline."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import structlog

from sidecar.egress.addresses import Address
from sidecar.egress.errors import Refused
from sidecar.turns import Turns

log = structlog.get_logger()

#: Look-ups under way at once, over all containers and of one at the most: the system's wait in a thread each.
_AT_ONCE = 32
_OF_ONE = 8
_DEADLINE = 8.0
#: Addresses of one answer that are looked at; a name with more is none that anybody means to connect to.
_MOST = 64
_LARGEST_FILE = 4 * 1024 * 1024

#: Every address of a name. Raises OSError.
Lookup = Callable[[str], list[Address]]


class Resolver(Protocol):
    async def resolve(self, owner: str, name: str) -> list[Address]:
        """The addresses of `name`, at least one, each once; `owner` takes its turn. Raises Refused."""


def system(name: str) -> list[Address]:
    """What this host makes of `name`: its own hosts file, its DNS."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(place[0]) for _, _, _, _, place in found]


class HostsFile:
    """A file in the form of /etc/hosts, read again when it has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[str, list[Address]] = {}

    def find(self, name: str) -> list[Address]:
        if self._path is None:
            return []
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                with self._path.open("rb") as file:
                    self._names = _names(file.read(_LARGEST_FILE).decode("utf-8", "replace"))
                self._seen = seen
        except OSError as error:
            # as it was: a file that is being replaced is not there for a moment
            log.warning("the hosts file can't be read", path=str(self._path), problem=str(error))
        return self._names.get(name, [])


def _names(text: str) -> dict[str, list[Address]]:
    names: dict[str, list[Address]] = {}
    for line in text.splitlines():
        address, *those = line.partition("#")[0].split()[:1000] or [""]
        try:
            place = ipaddress.ip_address(address)
        except ValueError:
            if address:
                log.warning("no address in the hosts file", line=line[:200])
            continue
        for name in those:
            names.setdefault(name.lower().removesuffix("."), []).append(place)
    return names


class HostResolver:
    """The resolver of a host."""

    def __init__(
        self,
        hosts: HostsFile,
        lookup: Lookup = system,
        deadline: float = _DEADLINE,
        containers: Callable[[], int] = lambda: 1,
    ) -> None:
        """`containers`: how many share the threads at the moment."""
        self._hosts = hosts
        self._lookup = lookup
        self._deadline = deadline
        self._turns = Turns(_AT_ONCE, lambda: max(1, min(_OF_ONE, _AT_ONCE // max(1, containers()))))
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="resolver")

    async def resolve(self, owner: str, name: str) -> list[Address]:
        found = self._hosts.find(name)
        if not found:
            try:
                async with asyncio.timeout(self._deadline):
                    found = await self._ask(owner, name)
            except TimeoutError:
                raise Refused(504, "dns_timeout", f"{name}: its name was not resolved in time") from None
        if not found:
            raise Refused(502, "unknown_host", f"{name}: there is no host of that name")
        if len(found) > _MOST:
            raise Refused(502, "unknown_host", f"{name}: its name has more than {_MOST} addresses")
        return list(dict.fromkeys(found))

    async def _ask(self, owner: str, name: str) -> list[Address]:
        await self._turns.take(owner)
        try:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, name)
        except BaseException:
            self._turns.give(owner)
            raise
        # a thread is at it until the system answers, whoever still waits for that
        asked.add_done_callback(lambda done: self._answered(owner, done))
        try:
            return await asyncio.shield(asked)
        except (OSError, UnicodeError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Refused(502, "unknown_host", f"{name}: its name can't be resolved: {problem}") from None

    def _answered(self, owner: str, asked: asyncio.Future[list[Address]]) -> None:
        self._turns.give(owner)
        if not asked.cancelled():
            asked.exception()  # somebody has looked, though nobody may wait any more
