"""The socket at which the process of a run asks the sidecar itself, past process 1: for its secrets and its files.

Process 1 serves one run after another, so it is none that may know secrets; and files are too large to pass through
it. Whatever is in the container may connect: who has the ticket of the attempt that is bound is of its run.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from samovar import wire

from sidecar import peers
from sidecar.errors import Refused, Stale
from sidecar.pace import Pace

log = structlog.get_logger()

#: Bytes of a request, and seconds that it may take; what waits to be read of a file, besides.
_LONGEST_REQUEST = 8 * 1024
_READ_AHEAD = 256 * 1024
PATIENCE = 30.0
#: Connections of one container: a second, at once to begin with, and at a time.
_ASKED = (20.0, 40)
_AT_ONCE = 16

Request = Mapping[str, Any]
#: Carries a request out on its connection. Raises Refused, Stale, ValidationError before anything was answered.
Answer = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One request and its connection."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reader = reader
        self.writer = writer
        #: Whether something was answered: what goes wrong after that can only end the connection.
        self.answered = False

    async def answer(self, message: Mapping[str, object]) -> None:
        self.answered = True
        await self.send(json.dumps(message).encode() + b"\n")

    async def send(self, data: bytes) -> None:
        """Raises TimeoutError where nobody reads it."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()


def ticket_of(secret: str) -> str:
    """The ticket of the attempt that writes with `secret`: the same after this sidecar has begun anew."""
    return hmac.digest(secret.encode(), b"ticket of the run's process", hashlib.sha256).hex()


class RunSocket:
    """Of one container. `bound`: the ticket of the attempt that is bound, and what it may ask by its word."""

    def __init__(self, directory: Path, bound: Callable[[], tuple[str, Mapping[str, Answer]] | None]) -> None:
        self._path = directory / wire.RUN_SOCKET_NAME
        self._bound = bound
        self._server: asyncio.Server | None = None
        self._asked = Pace(*_ASKED)
        self._visits: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Listens from now on. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=peers.listener(self._path), limit=_READ_AHEAD
        )
        os.chmod(self._path, 0o666)

    def hang_up(self) -> None:
        """Ends what is under way: the attempt is not bound any more."""
        for visit in list(self._visits):
            visit.cancel()

    def close(self) -> None:
        self.hang_up()
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._visits) >= _AT_ONCE or not peers.may_be_a_container(peers.uid_of(writer)):
            writer.close()
            return
        self._visits.add(task)
        try:
            await self._visit(reader, writer)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a request of a run's process came to nothing", problem=repr(error))
        except asyncio.CancelledError:
            pass  # hung up on
        finally:
            self._visits.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._asked.turn()
            line = await reader.readuntil(b"\n")
        request = _read(line)
        visit = Visit(request, reader, writer)
        bound = self._bound()
        ticket = request.get("ticket")
        if bound is None or not isinstance(ticket, str) or not _equal(ticket, bound[0]):
            await visit.answer(wire.refusal({}, "no_ticket", "this is not the ticket of the run that is here now"))
            return
        ask = request.get("ask")
        answer = bound[1].get(ask) if isinstance(ask, str) else None
        try:
            if answer is None:
                raise Refused("unknown_type", f"{str(ask)[:64]!r} is none of {sorted(bound[1])}")
            await answer(visit)
        except (Refused, Stale, ValidationError) as error:
            if visit.answered:
                log.debug("a transfer ended", problem=str(error))
                return
            await visit.answer(_refusal(error))


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _read(line: bytes) -> Request:
    try:
        request = json.loads(line) if len(line) <= _LONGEST_REQUEST else None
    except (ValueError, RecursionError):
        request = None
    return request if isinstance(request, dict) else {}


def _refusal(error: Refused | Stale | ValidationError) -> wire.Message:
    if isinstance(error, Stale):
        return wire.refusal({}, "stale_attempt", str(error))
    if isinstance(error, Refused):
        return wire.refusal({}, error.code, str(error), status=error.status, fields=error.fields)
    first = error.errors()[0]
    return wire.refusal({}, "bad_request", f"{'.'.join(map(str, first['loc'][:8]))}: {first['msg']}"[:1000])
