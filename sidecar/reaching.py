"""What an attempt reaches, and when the coordinator is told of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from coordinator import wire as fleet
from sidecar.egress.child import Child, Reached
from sidecar.egress.records import Entry, HostCount
from sidecar.errors import Refused, Stale

log = structlog.get_logger()

#: Seconds between two accounts while an attempt runs.
_COUNTS = 5.0
#: Seconds for the last one of an attempt that has not said its end; so long it is taken after that.
_SETTLED = 30.0

#: Carries an account to the coordinator in an attempt's name. Raises Stale, Refused.
Send = Callable[[fleet.Assignment, fleet.AttemptEgress], Awaitable[object]]


class Reaching:
    """The accounts of one container: of the attempt bound to it, and of those before that are being settled."""

    def __init__(self, container: str, boot: str, egress: Child, send: Send) -> None:
        """`boot`: of this sidecar, whose last account of an attempt is the one that counts."""
        self._container = container
        self._boot = boot
        self._egress = egress
        self._send = send
        self._assignment: fleet.Assignment | None = None
        #: What the bound attempt reaches, where it may reach anything.
        self._reached: Reached | None = None
        self._counting: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._one_count = asyncio.Lock()

    def begun(self) -> None:
        """User code may be in the container from now on."""
        self._egress.begun(self._container)

    def bind(self, a: fleet.Assignment, say: Callable[[Entry], None]) -> None:
        """What is reached from now on is reached by `a`; `say` hears what goes into its log."""
        self._assignment = a
        self._reached = self._egress.open(self._container, a.attempt, say, self._counts)

    def unbind(self) -> None:
        """The attempt is no longer bound: where it has not said its end, its last account is sent behind it."""
        if self._counting is not None:
            self._counting.cancel()
            self._counting = None
        a, reached = self._assignment, self._reached
        self._assignment = self._reached = None
        if a is not None and reached is not None:
            task = asyncio.create_task(self._settle(a, reached))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def end(self, a: fleet.Assignment) -> None:
        """Ends what the attempt has open, and sends its last account before its end is told."""
        if (reached := self._reached) is not None:
            await self._egress.close(reached)
            await self._count(a, reached)
            self._reached = None

    async def settle(self) -> None:
        """Sends what the attempt has reached so far, for this sidecar to end while its containers go on."""
        a, reached = self._assignment, self._reached
        self._reached = None
        if a is not None and reached is not None:
            await self._settle(a, reached)

    def close(self) -> None:
        """Gives up the accounts that are still on their way."""
        for task in self._settling:
            task.cancel()

    def _counts(self) -> None:
        """Sends what the attempt has reached so far, so that it is known of a container that dies too."""
        a, reached = self._assignment, self._reached
        if a is None or reached is None or (self._counting is not None and not self._counting.done()):
            return

        async def count() -> None:
            await asyncio.sleep(_COUNTS)
            if self._assignment is a:
                await self._count(a, reached)

        self._counting = asyncio.create_task(count())

    async def _settle(self, a: fleet.Assignment, reached: Reached) -> None:
        """The last account of an attempt that has not said its end: nobody waits for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLED):
                await self._egress.close(reached)
                await self._count(a, reached)

    async def _count(self, a: fleet.Assignment, reached: Reached) -> None:
        """Sends what the attempt has reached so far, where it has reached anything."""
        async with self._one_count:  # the last that arrives is what counts
            await self._send_counts(a, list(reached.hosts))

    async def _send_counts(self, a: fleet.Assignment, hosts: list[HostCount]) -> None:
        if not hosts:
            return
        body = fleet.AttemptEgress(
            token=a.token,
            boot=self._boot,
            hosts=[fleet.EgressHost.model_validate(msgspec.structs.asdict(host)) for host in hosts],
        )
        try:
            await self._send(a, body)
        except (Stale, Refused) as error:
            # a run can end without it; a write that matters says so too where the attempt is stale
            log.warning("the account of egress was refused", attempt=a.attempt, problem=str(error))
