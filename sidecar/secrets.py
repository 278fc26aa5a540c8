"""The secrets of the attempt that is bound to a container: fetched for it, and handed to its own process.

They do not pass through process 1, which serves one run after another, and so is none that may know them: the
process of a run asks for them at a socket of their own, with a ticket that came with its assignment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from samovar import wire

from coordinator.wire import SecretValues
from sidecar import peers
from sidecar.errors import Refused, Stale
from sidecar.pace import Pace
from sidecar.redaction import NOTHING, Redactor, redactor

log = structlog.get_logger()

#: Bytes of a request, and seconds that it may take.
_LONGEST_REQUEST = 1024
_PATIENCE = 5.0
#: Connections of one container, a second and at once.
_ASKED = (20.0, 40)
_AT_ONCE = 16

#: Asks the coordinator for the secrets of the attempt. Raises Refused, Stale.
Fetch = Callable[[], Awaitable[SecretValues]]


class Secrets:
    """What one attempt is given. Everything of it that goes to the coordinator waits until they are known here."""

    def __init__(self, project: str, secret: str, fetch: Fetch) -> None:
        """`secret`: the attempt's own, that it writes with."""
        self._project = project
        #: The same after this sidecar has begun anew, when the run's process may not have asked yet.
        self.ticket = hmac.digest(secret.encode(), b"secrets of this attempt", hashlib.sha256).hex()
        self._fetch = fetch
        self._redactor: Redactor = NOTHING
        self._fetching = asyncio.ensure_future(self._fetched())

    async def _fetched(self) -> SecretValues:
        found = await self._fetch()
        # with many long ones it takes a while, in which others' messages go on
        self._redactor = await asyncio.to_thread(redactor, tuple(sorted(found.values.values())))
        return found

    async def _found(self) -> SecretValues:
        try:
            return await asyncio.shield(self._fetching)
        except asyncio.CancelledError:
            if self._fetching.cancelled():
                raise Stale("the attempt is not bound here any more") from None
            raise

    async def given(self) -> dict[str, str]:
        """By name. Raises Refused, Stale: where the attempt gets none."""
        found = await self._found()
        if found.missing:
            raise Refused("secrets_missing", _missing(found.missing, self._project))
        return found.values

    async def redactor(self) -> Redactor:
        """What takes them out of text; where the attempt was given none, there is nothing to take out."""
        with contextlib.suppress(Refused, Stale):
            await self._found()
        return self._redactor

    def close(self) -> None:
        self._fetching.cancel()


class Counter:
    """The socket at which the processes of one container's runs ask for their secrets.

    Open to whatever is in the container: who has the ticket of the attempt that is bound is of its run.
    """

    def __init__(self, directory: Path, bound: Callable[[], Secrets | None]) -> None:
        self._path = directory / wire.SECRETS_NAME
        self._bound = bound
        self._server: asyncio.Server | None = None
        self._asked = Pace(*_ASKED)
        self._open = 0

    async def open(self) -> None:
        """Listens from now on, if it does not already. Raises OSError."""
        if self._server is None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_LONGEST_REQUEST)
            os.chmod(self._path, 0o666)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= _AT_ONCE or not peers.may_be_a_container(peers.uid_of(writer)):
            writer.close()
            return
        self._open += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._asked.turn()
                line = await reader.readuntil(b"\n")
            # the coordinator may be away: that is waited for, as with everything else of a run
            answer = await self._answer(line)
            async with asyncio.timeout(_PATIENCE):
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a request for secrets came to nothing", problem=repr(error))
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        secrets = self._bound()
        try:
            ticket = json.loads(line)["ticket"]
            admitted = secrets is not None and hmac.compare_digest(ticket.encode(), secrets.ticket.encode())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            admitted = False
        if secrets is None or not admitted:
            return wire.refusal({}, "no_ticket", "this is not the ticket of the run that is here now")
        try:
            return {"ok": True, "secrets": await secrets.given()}
        except (Refused, Stale) as error:
            code = error.code if isinstance(error, Refused) else "stale_attempt"
            return wire.refusal({}, code, str(error))


def _missing(names: list[str], project: str) -> str:
    shown = ", ".join(names)
    which = f"the secret {shown} is" if len(names) == 1 else f"the secrets {shown} are"
    return f"{which} not set: `samovar secrets set {names[0]} --project {project}` reads the value from stdin"
