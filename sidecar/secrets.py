"""The secrets of the attempt that is bound to a container: fetched for it, and handed to its own process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from coordinator.wire import SecretValues
from sidecar.errors import Refused, Stale
from sidecar.redaction import NOTHING, Redactor, redactor
from sidecar.run_socket import Visit

#: Asks the coordinator for the secrets of the attempt. Raises Refused, Stale.
Fetch = Callable[[], Awaitable[SecretValues]]


class Secrets:
    """What one attempt is given. Everything of it that goes to the coordinator waits until they are known here."""

    def __init__(self, project: str, fetch: Fetch) -> None:
        self._project = project
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

    async def give(self, visit: Visit) -> None:
        """To the run's process, by name. Raises Refused, Stale: where the attempt gets none."""
        found = await self._found()
        if found.missing:
            raise Refused("secrets_missing", _missing(found.missing, self._project))
        await visit.answer({"ok": True, "secrets": found.values})

    async def redactor(self) -> Redactor:
        """What takes them out of text; where the attempt was given none, there is nothing to take out."""
        with contextlib.suppress(Refused, Stale):
            await self._found()
        return self._redactor

    def close(self) -> None:
        self._fetching.cancel()


def _missing(names: list[str], project: str) -> str:
    shown = ", ".join(names)
    which = f"the secret {shown} is" if len(names) == 1 else f"the secrets {shown} are"
    return f"{which} not set: `samovar secrets set {names[0]} --project {project}` reads the value from stdin"
