"""A container as the sidecar knows it: its connection, how far it has come, and which attempt is bound to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import ValidationError
from samovar import wire

from coordinator import wire as fleet
from sidecar import accounts
from sidecar.attempt import Attempt, Paces, Place, Start, never
from sidecar.connection import Listener, granted, refusal
from sidecar.egress.child import Child
from sidecar.envelope import WHOLE, Request
from sidecar.errors import Refused, Stale
from sidecar.events import EventLog
from sidecar.files import Files
from sidecar.logs import Budget
from sidecar.reaching import Reaching
from sidecar.run_socket import Answer, RunSocket
from sidecar.sharing import Sharing
from sidecar.ticket import Ticket
from sidecar.turns import Turns
from sidecar.upstream import Upstream

_LONGEST_ATTEMPT = 128


class Container:
    """Binds one container to at most one attempt. A request that names another attempt than that is refused."""

    def __init__(
        self,
        name: str,
        directory: Path,
        ticket: Ticket,
        upstream: Upstream,
        events: EventLog,
        budget: Budget,
        large: asyncio.Semaphore,
        transfers: Turns,
        egress: Child,
        sharing: Sharing,
    ) -> None:
        self.name = name
        self._sharing = sharing
        self._events = events
        self._attempt: Attempt | None = None
        #: By our clock: since when it is started for the bound attempt, when process 1 had connected, and when the
        #: modules were imported.
        self._begins: float | None = None
        self._connected: float | None = None
        self._imported: float | None = None
        #: An assignment that has not been put onto a connection yet.
        self._undelivered = False
        self._run_socket = RunSocket(directory, self._asked)
        self._finished: str | None = None
        #: The events `ready` and `finished` as they were, for a runner that could not read them.
        self._readied: dict[str, Any] | None = None
        self._end: dict[str, Any] = {}
        #: What it said of itself after a `finished` that had left it open.
        self._release: dict[str, Any] | None = None
        self._greeted = False
        self.listener = Listener(directory, ticket, self._handle, self._lost_connection, large)
        self._place = Place(
            container=name,
            upstream=upstream,
            events=events,
            budget=budget,
            large=self.listener.large,
            paces=Paces(),
            files=Files(name, upstream, transfers),
            reaching=Reaching(name, events.boot, egress, self._send_reached),
        )

    # ------------------------------------------------------------ what the runner says

    def state(self) -> fleet.ContainerState:
        return fleet.ContainerState(
            connected=self._greeted,
            attempt=self._attempt.id if self._attempt else None,
            finished=self._finished,
        )

    @property
    def bound(self) -> bool:
        """Whether an attempt is bound to it: only then has it anything to ask the coordinator for."""
        return self._attempt is not None

    def repeat(self) -> None:
        """Says once more how far the container has come, to a runner that may not have heard it."""
        if self._readied is not None:
            self._events.add(self.name, "ready", **self._readied)
        elif self._greeted:
            self._events.add(self.name, "connected")

    async def open(self) -> None:
        """Listens. Raises OSError."""
        await self._run_socket.open()
        await self.listener.open()

    def assign(
        self, assignment: fleet.Assignment, start: fleet.Start, placing: fleet.Placing | None = None
    ) -> None:
        """Binds `assignment` and hands it over, now or when the container connects."""
        self._bind(assignment, start, placing)
        if start == "cold" and placing is not None:
            self._begins = monotonic() - placing.starting
        self._undelivered = True
        self._deliver()

    def resume(
        self,
        assignment: fleet.Assignment,
        start: fleet.Start,
        placing: fleet.Placing | None = None,
        *,
        undelivered: bool,
    ) -> None:
        """Binds an assignment from before this sidecar or the runner began anew.

        Only the container knows whether it has it: its hello decides what `undelivered` leaves open.
        """
        if assignment.attempt == self._finished:
            self._events.add(self.name, "finished", **self._end)
            if self._release is not None:
                self._events.add(self.name, "released", **self._release)
        elif self._attempt is None or self._attempt.id != assignment.attempt:
            self._bind(assignment, start, placing, resumed=not undelivered)
            self._undelivered = undelivered
        elif self._attempt.started:
            # once more, for a runner that was not there to hear it: it would take the run for one that never began
            self._events.add(self.name, "started", attempt=assignment.attempt)

    def cancel(self, body: fleet.CancelAttempt) -> bool:
        """Whether the container was told to end the attempt."""
        if self._attempt is None or self._attempt.id != body.attempt:
            return False
        return self.listener.send({"type": wire.CANCEL, **body.model_dump()})

    async def settle(self) -> None:
        """Sends what its attempt has reached so far, for this sidecar to end while its containers go on."""
        await self._place.reaching.settle()

    def close(self) -> None:
        """Stops listening, for this sidecar to end while its containers go on."""
        self._unbind()
        self._run_socket.close()
        self._place.reaching.close()
        self.listener.close()

    def remove(self) -> None:
        """Stops listening for good: the container is gone."""
        self._unbind()
        self._run_socket.close()
        self.listener.remove()

    # ------------------------------------------------------------ what the container says

    async def _handle(self, request: Request) -> bytes:
        try:
            return await self._answer(request)
        except Refused as error:
            return refusal(request.id, error.code, str(error), status=error.status, fields=error.fields)
        except ValidationError as error:
            return refusal(request.id, "bad_request", accounts.sentence(request.kind, error))

    async def _answer(self, request: Request) -> bytes:
        kind = request.kind
        if kind == wire.HELLO:
            return await self._on_hello(request)
        if not self._greeted:
            raise Refused("no_hello", "say hello first")
        if kind == wire.READY:
            return await self._on_ready(request)
        if kind == wire.RELEASED:
            return self._on_released(request)
        if kind not in wire.REQUESTS:
            raise Refused("unknown_type", f"{kind!r} is none of {sorted(wire.REQUESTS)}")
        bound = self._attempt
        attempt = request.get("attempt", most=1024)
        if bound is None or attempt != bound.id:
            raise Refused("stale_attempt", f"attempt {str(attempt)[:_LONGEST_ATTEMPT]!r} is not bound here")
        if request.problem is not None and kind != wire.FINISH:
            raise request.problem
        try:
            if kind == wire.FINISH:
                return granted(request.id, await self._on_finish(request, bound))
            return granted(request.id, await bound.answer(request))
        except Stale as error:
            if self._attempt is bound:
                self._unbind()
                self._events.add(self.name, "stale", attempt=bound.id)
            raise Refused("stale_attempt", str(error)) from None

    async def _on_hello(self, request: Request) -> bytes:
        await self._place.paces.told.turn()
        if request.get("protocol", most=32) != wire.PROTOCOL:
            raise Refused("protocol", f"this sidecar speaks protocol {wire.PROTOCOL}")
        running = request.get("attempt", most=1024)
        if running is not None and not (isinstance(running, str) and len(running) <= _LONGEST_ATTEMPT):
            raise Refused(
                "bad_request", f"attempt: text of at most {_LONGEST_ATTEMPT} characters is wanted, or null"
            )
        # said before anything else is: as soon as process 1 hears from here, user code may exist
        self._place.reaching.begun()
        ticket = self.listener.ticket.give()
        self._greeted = True
        self._connected = self._connected or monotonic()
        bound = self._attempt.id if self._attempt else None
        if bound is not None and running is None and not self._undelivered:
            self._unbind()
            self._events.add(self.name, "idle", attempt=bound)
        elif self._attempt is not None and running == bound:
            self._undelivered = False
            self._attempt.started = True
            # once more, for a runner that could not hear it from the sidecar before this one
            self._events.add(self.name, "started", attempt=bound)
        elif running is not None:
            self._events.add(self.name, "stale", attempt=running)
        else:
            self._events.add(self.name, "connected")
        self._deliver()
        return granted(request.id, accounts.encoded({"ticket": ticket}))

    async def _on_ready(self, request: Request) -> bytes:
        await self._place.paces.told.turn()
        error = None if request.problem is not None else request.get("error", most=WHOLE)
        try:
            body = fleet.ErrorBody.model_validate(accounts.cut(error)) if error else None
        except ValidationError as problem:
            body = fleet.ErrorBody(type="ImportError", message=accounts.sentence("ready", problem))
        if request.problem is not None:
            body = fleet.ErrorBody(type="ImportError", message=accounts.sentence("ready", request.problem))
        self._readied = {"error": body, "memory": accounts.size(request.get("memory", most=64))}
        self._imported = self._imported or monotonic()
        self.repeat()
        return granted(request.id)

    def _on_released(self, request: Request) -> bytes:
        attempt = request.get("attempt", most=1024)
        if attempt is None or attempt != self._finished or not self._end["held"] or self._release is not None:
            raise Refused(
                "stale_attempt", f"attempt {str(attempt)[:_LONGEST_ATTEMPT]!r} does not hold this container"
            )
        self._release = {"attempt": attempt, **accounts.of_container(request)}
        self._events.add(self.name, "released", **self._release)
        return granted(request.id)

    async def _on_finish(self, request: Request, bound: Attempt) -> bytes:
        end = await bound.finish(request)
        self._finished = bound.id
        if self._attempt is bound:
            self._unbind()
        self._end, self._release = end, None
        self._events.add(self.name, "finished", **end)
        return b"{}"

    # ------------------------------------------------------------

    def _took(self) -> tuple[float | None, float | None]:
        """Seconds of a start: until process 1 had connected, and from then until the modules were imported."""
        begins, connected, imported = self._begins, self._connected, self._imported
        return (
            None if begins is None or connected is None else max(0.0, connected - begins),
            None if begins is None or connected is None or imported is None else max(0.0, imported - connected),
        )

    def _bind(
        self,
        assignment: fleet.Assignment,
        start: fleet.Start,
        placing: fleet.Placing | None = None,
        *,
        resumed: bool = False,
    ) -> None:
        self._unbind()
        self._begins = None
        took = self._took if start == "cold" else _at_once
        self._attempt = Attempt(self._place, assignment, Start(start, placing, took), resumed=resumed)
        self._sharing.come(assignment.project)

    def _unbind(self) -> None:
        if self._attempt is not None:
            self._attempt.close()
            self._sharing.go(self._attempt.assignment.project)
        self._run_socket.hang_up()
        self._attempt, self._undelivered = None, False

    def _asked(self) -> tuple[str, dict[str, Answer]] | None:
        """The ticket of the bound attempt, and what its process may ask for."""
        attempt = self._attempt
        return None if attempt is None else attempt.asked()

    async def _send_reached(self, a: fleet.Assignment, body: fleet.AttemptEgress) -> bytes:
        return await self._place.post(a, "egress", {}, body, never)

    def _deliver(self) -> None:
        if self._attempt is None or not self._undelivered or not self._greeted:
            return
        if self.listener.send(self._attempt.message()):
            self._undelivered = False

    def _lost_connection(self) -> None:
        self._greeted = False
        self._events.add(self.name, "disconnected", attempt=self._attempt.id if self._attempt else None)


def _at_once() -> tuple[float, float]:
    """Of a container that stood ready."""
    return 0.0, 0.0
