"""A container as the sidecar knows it: which attempt runs in it, and what each of its requests means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError
from samovar import wire

from coordinator import wire as fleet
from sidecar import accounts, envelope
from sidecar.connection import Listener, granted, refusal
from sidecar.egress.child import Child
from sidecar.egress.records import Entry
from sidecar.envelope import WHOLE, Request
from sidecar.errors import Refused, Stale
from sidecar.events import EventLog
from sidecar.files import Files
from sidecar.logs import Budget, LogStream
from sidecar.pace import Pace
from sidecar.reaching import Reaching
from sidecar.redaction import NOTHING, Redactor
from sidecar.run_socket import Answer, RunSocket, Visit, ticket_of
from sidecar.secrets import Secrets
from sidecar.ticket import Ticket
from sidecar.turns import Turns
from sidecar.upstream import Upstream

log = structlog.get_logger()

#: Of one container, a second and at once: each is a transaction of the coordinator's database.
_WRITES = (300.0, 1000)
_REPORTS = (10.0, 20)
#: What the runner hears of: it acts on each.
_EVENTS = (5.0, 20)
_LONGEST_ATTEMPT = 128
#: The logger of lines about what an attempt reaches.
_EGRESS = "samovar.egress"

Handler = Callable[[Request, fleet.Assignment], Awaitable[bytes]]


class Container:
    """Binds one container to at most one attempt, and speaks to the coordinator in that attempt's name.

    The container never names its attempt's token or secret: both come from the runner and stay here. A
    request that names another attempt than the bound one is refused.
    """

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
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._events = events
        self._budget = budget
        self._assignment: fleet.Assignment | None = None
        self._start: fleet.Start = "cold"
        #: How the bound attempt came here; and by our clock since when its container is being started, when process
        #: 1 had connected, and when the modules were imported.
        self._placing: fleet.Placing | None = None
        self._begins: float | None = None
        self._connected: float | None = None
        self._imported: float | None = None
        #: An assignment that has not been put onto a connection yet.
        self._undelivered = False
        #: Whether the container has said that the bound attempt has begun.
        self._started = False
        self._logs: LogStream | None = None
        #: None: the bound attempt has none.
        self._secrets: Secrets | None = None
        self._files = Files(name, upstream, transfers)
        self._run_socket = RunSocket(directory, self._asked)
        self._reaching = Reaching(name, events.boot, egress, self._send_reached)
        self._finished: str | None = None
        #: The events `ready` and `finished` as they were, for a runner that could not read them.
        self._readied: dict[str, Any] | None = None
        self._end: dict[str, Any] = {}
        #: What it said of itself after a `finished` that had left it open.
        self._release: dict[str, Any] | None = None
        self._greeted = False
        self._one_log = asyncio.Lock()
        self._writes = Pace(*_WRITES)
        self._reports = Pace(*_REPORTS)
        self._told = Pace(*_EVENTS)
        self.listener = Listener(directory, ticket, self._handle, self._lost_connection, large)
        self._handlers: dict[str, Handler] = {
            wire.STARTED: self._on_started,
            wire.CHECKPOINT_GET: self._on_checkpoint_get,
            wire.CHECKPOINT_PUT: self._on_checkpoint_put,
            wire.LOG: self._on_log,
            wire.REPORT: self._on_report,
            wire.EXTEND: self._on_extend,
            wire.WAIT: self._on_wait,
            wire.WAIT_RESULT: self._on_wait_result,
            wire.FINISH: self._on_finish,
        }

    # ------------------------------------------------------------ what the runner says

    def state(self) -> fleet.ContainerState:
        return fleet.ContainerState(
            connected=self._greeted,
            attempt=self._assignment.attempt if self._assignment else None,
            finished=self._finished,
        )

    @property
    def bound(self) -> bool:
        """Whether an attempt is bound to it: only then has it anything to ask the coordinator for."""
        return self._assignment is not None

    @property
    def project(self) -> str | None:
        """Of the bound attempt."""
        return None if self._assignment is None else self._assignment.project

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
        elif self._assignment is None or self._assignment.attempt != assignment.attempt:
            self._bind(assignment, start, placing, resumed=not undelivered)
            self._undelivered = undelivered
        elif self._started:
            # once more, for a runner that was not there to hear it: it would take the run for one that never began
            self._events.add(self.name, "started", attempt=assignment.attempt)

    def cancel(self, body: fleet.CancelAttempt) -> bool:
        """Whether the container was told to end the attempt."""
        if self._assignment is None or self._assignment.attempt != body.attempt:
            return False
        return self.listener.send({"type": wire.CANCEL, **body.model_dump()})

    async def settle(self) -> None:
        """Sends what its attempt has reached so far, for this sidecar to end while its containers go on."""
        await self._reaching.settle()

    def close(self) -> None:
        """Stops listening, for this sidecar to end while its containers go on."""
        self._unbind()
        self._run_socket.close()
        self._reaching.close()
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
        handler = self._handlers.get(kind)
        if handler is None:
            raise Refused("unknown_type", f"{kind!r} is none of {sorted(wire.REQUESTS)}")
        assignment = self._assignment
        attempt = request.get("attempt", most=1024)
        if assignment is None or attempt != assignment.attempt:
            raise Refused("stale_attempt", f"attempt {str(attempt)[:_LONGEST_ATTEMPT]!r} is not bound here")
        if request.problem is not None and kind != wire.FINISH:
            raise request.problem
        try:
            return granted(request.id, await handler(request, assignment))
        except Stale as error:
            if self._assignment is assignment:
                self._unbind()
                self._events.add(self.name, "stale", attempt=assignment.attempt)
            raise Refused("stale_attempt", str(error)) from None

    async def _on_hello(self, request: Request) -> bytes:
        await self._told.turn()
        if request.get("protocol", most=32) != wire.PROTOCOL:
            raise Refused("protocol", f"this sidecar speaks protocol {wire.PROTOCOL}")
        running = request.get("attempt", most=1024)
        if running is not None and not (isinstance(running, str) and len(running) <= _LONGEST_ATTEMPT):
            raise Refused(
                "bad_request", f"attempt: text of at most {_LONGEST_ATTEMPT} characters is wanted, or null"
            )
        # said before anything else is: as soon as process 1 hears from here, user code may exist
        self._reaching.begun()
        ticket = self.listener.ticket.give()
        self._greeted = True
        self._connected = self._connected or monotonic()
        bound = self._assignment.attempt if self._assignment else None
        if bound is not None and running is None and not self._undelivered:
            self._unbind()
            self._events.add(self.name, "idle", attempt=bound)
        elif running is not None and running == bound:
            self._undelivered = False
            self._started = True
            # once more, for a runner that could not hear it from the sidecar before this one
            self._events.add(self.name, "started", attempt=bound)
        elif running is not None:
            self._events.add(self.name, "stale", attempt=running)
        else:
            self._events.add(self.name, "connected")
        self._deliver()
        return granted(request.id, accounts.encoded({"ticket": ticket}))

    async def _on_ready(self, request: Request) -> bytes:
        await self._told.turn()
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

    async def _on_started(self, request: Request, a: fleet.Assignment) -> bytes:
        if self._started:
            # the first of an attempt comes as often as the runner hands one over
            await self._told.turn()
        self._started = True
        self._events.add(self.name, "started", attempt=a.attempt)
        starting, importing = self._took()
        body = fleet.Started(
            token=a.token, start=self._start, placing=self._placing, starting=starting, importing=importing
        )
        await self._send(request, a, "start", body)
        return b"{}"

    async def _on_checkpoint_get(self, request: Request, a: fleet.Assignment) -> bytes:
        await self._writes.turn()
        body = fleet.CheckpointGet(token=a.token, key=accounts.key(request))
        return await self._send(request, a, "checkpoint-get", body)

    async def _on_checkpoint_put(self, request: Request, a: fleet.Assignment) -> bytes:
        await self._writes.turn()
        took = accounts.milliseconds(request.get("took_ms", most=64))
        body = fleet.CheckpointPut(token=a.token, key=accounts.key(request), value=None, took_ms=took)
        return await self._send(request, a, "checkpoint", body, "value")

    async def _on_log(self, request: Request, a: fleet.Assignment) -> bytes:
        logs = self._logs
        assert logs is not None  # bound together with the assignment
        # one at a time: what it takes to look through one is bounded, and their order is kept
        async with self._one_log:
            logs.redactor = await self._redactor()
            await logs.add(request.raw("lines"))
        return b"{}"

    async def _on_report(self, request: Request, a: fleet.Assignment) -> bytes:
        await self._reports.turn()
        redactor = await self._redactor()
        body = fleet.Report(token=a.token, curve=accounts.curve(request.get("curve"), redactor))
        if redactor is not NOTHING:
            for name in ("progress", "metadata"):
                request.put(name, accounts.encoded(redactor.tree(request.get(name, most=WHOLE))))
        return await self._send(request, a, "report", body, "progress", "metadata")

    async def _on_extend(self, request: Request, a: fleet.Assignment) -> bytes:
        await self._told.turn()
        body = fleet.Extend(token=a.token, seconds=request.get("seconds", 0, most=64))
        answer = await self._send(request, a, "extend", body)
        self._events.add(self.name, "extended", attempt=a.attempt, seconds=body.seconds)
        return answer

    async def _on_wait(self, request: Request, a: fleet.Assignment) -> bytes:
        await self._writes.turn()
        body = fleet.WaitCall(
            token=a.token, key=accounts.key(request), kind=request.get("kind", most=64), name=request.get("name")
        )
        if request.raw("spec") == [b"null"]:
            return await self._send(request, a, "wait", body)
        return await self._send(request, a, "wait", body, "spec")

    async def _on_wait_result(self, request: Request, a: fleet.Assignment) -> bytes:
        await self._writes.turn()
        body = fleet.WaitResultGet(token=a.token, key=accounts.key(request), index=request.get("index", 0, most=64))
        return await self._send(request, a, "wait-result", body)

    def _account(self, request: Request) -> dict[str, Any]:
        """What a container says of itself after a run: whether it may be used again, and its memory in bytes."""
        container: dict[str, Any] = {}
        try:
            container = accounts.mapping(request.get("container"))
        except Refused:
            log.debug("a container says what is no account of itself", container=self.name)
        clean = container.get("clean") is True and not container.get("oom_kills")
        return {"clean": clean, "memory": accounts.size(container.get("memory"))}

    def _on_released(self, request: Request) -> bytes:
        attempt = request.get("attempt", most=1024)
        if attempt is None or attempt != self._finished or not self._end["held"] or self._release is not None:
            raise Refused(
                "stale_attempt", f"attempt {str(attempt)[:_LONGEST_ATTEMPT]!r} does not hold this container"
            )
        self._release = {"attempt": attempt, **self._account(request)}
        self._events.add(self.name, "released", **self._release)
        return granted(request.id)

    async def _on_finish(self, request: Request, a: fleet.Assignment) -> bytes:
        said = monotonic()
        account = self._account(request)
        # one that is still to clean up says so afterwards, and mostly that all is well
        held = request.says_null("container")
        logs = self._logs
        assert logs is not None
        await self._reaching.end(a)
        await logs.drained()
        redactor = logs.redactor = await self._redactor()
        self._events.add(self.name, "ending", attempt=a.attempt, clean=account["clean"] or held)
        try:
            if request.problem is not None:
                raise request.problem
            body = accounts.finish(request, a.token, redactor)
            lines = [
                line for data in envelope.objects(request.raw("lines"), WHOLE) if (line := logs.admitted(data))
            ]
            values: dict[str, Sequence[bytes]] = {"lines": [b"[", b",".join(lines), b"]"]}
            if body.outcome == wire.COMPLETED:
                values["result"] = request.raw("result")
            if body.outcome == wire.WAITING and request.raw("waits") != [b"null"]:
                values["waits"] = request.raw("waits")
            body.held = monotonic() - said
            # (after its start, or with it, where the run is shorter than the answer to that)
            await self._post(a, "finish", values, body, self._large(request))
        except (Refused, ValidationError) as refused:
            # an end that can't be taken as it is still has to end the run, and say why: nobody else would before
            # the task's timeout. What is left of it is made here
            body = fleet.Finish(
                token=a.token,
                outcome="failed",
                error=fleet.ErrorBody(type="ResultRefused", message=accounts.sentence("finish", refused)),
                retry=fleet.Retry(allowed=False),
                held=monotonic() - said,
            )
            await self._post(a, "finish", {}, body, self._large(request))
        self._finished = a.attempt
        if self._assignment is a:
            self._unbind()
        self._end = {
            "attempt": a.attempt,
            "outcome": body.outcome,
            "reason": body.error.reason if body.error else None,
            "held": held,
            "peak": body.peak_memory_bytes,
            **account,
        }
        self._release = None
        self._events.add(self.name, "finished", **self._end)
        return b"{}"

    # ------------------------------------------------------------

    async def _send(
        self, request: Request, a: fleet.Assignment, action: str, body: BaseModel, *values: str
    ) -> bytes:
        """The answer to `body` with the members `values` of the request in it, as they came."""
        given: dict[str, Sequence[bytes]] = {name: request.raw(name) for name in values}
        for name in values:
            request.drop(name)
        return await self._post(a, action, given, body, self._large(request))

    async def _redactor(self) -> Redactor:
        return NOTHING if self._secrets is None else await self._secrets.redactor()

    async def _post(
        self,
        a: fleet.Assignment,
        action: str,
        values: dict[str, Sequence[bytes]],
        body: BaseModel,
        large: Callable[[], Awaitable[None]],
    ) -> bytes:
        fields = body.model_dump_json(exclude=set(values)).encode()
        return await self._upstream.post(
            a.project, self.name, a.attempt, action, a.secret, envelope.body(values, fields), large
        )

    def _large(self, request: Request) -> Callable[[], Awaitable[None]]:
        """For an answer that is large: there is one of a container here, as there is one such request."""

        async def acquire() -> None:
            if not request.large:
                await self.listener.large.acquire()
                request.large = True

        return acquire

    def _took(self) -> tuple[float | None, float | None]:
        """Seconds of a start: until process 1 had connected, and from then until the modules were imported."""
        if self._start != "cold":
            return 0.0, 0.0
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
        self._assignment = assignment
        self._start, self._placing, self._begins = start, placing, None

        async def send(lines: list[bytes]) -> None:
            body = fleet.AttemptLogs(token=assignment.token, lines=[])
            try:
                await self._post(assignment, "logs", {"lines": [b"[", b",".join(lines), b"]"]}, body, _never)
            except (Stale, Refused) as error:
                # the next write of the attempt says so too, to somebody who can act on it
                log.warning("log lines refused", attempt=assignment.attempt, problem=str(error))

        self._logs = logs = LogStream(
            send, self._upstream.away, self._budget, project=assignment.project, resumed=resumed
        )

        def say(entry: Entry) -> None:
            logs.say(entry.level, _EGRESS, entry.message)

        self._reaching.bind(assignment, say)

        if assignment.secrets:

            async def fetch() -> fleet.SecretValues:
                body = fleet.SecretsGet(token=assignment.token)
                answer = await self._post(assignment, "secrets", {}, body, _never)
                return fleet.SecretValues.model_validate_json(answer)

            self._secrets = Secrets(assignment.project, fetch)

    def _asked(self) -> tuple[str, dict[str, Answer]] | None:
        """The ticket of the bound attempt, and what its process may ask for."""
        a, secrets = self._assignment, self._secrets
        if a is None:
            return None

        async def get(visit: Visit) -> None:
            await self._files.get(visit, a)

        async def put(visit: Visit) -> None:
            await self._files.put(visit, a)

        found: dict[str, Answer] = {"get": get, "put": put}
        if secrets is not None:
            found["secrets"] = secrets.give
        return ticket_of(a.secret), found

    async def _send_reached(self, a: fleet.Assignment, body: fleet.AttemptEgress) -> bytes:
        return await self._post(a, "egress", {}, body, _never)

    def _unbind(self) -> None:
        self._reaching.unbind()
        if self._logs is not None:
            self._logs.close()
        if self._secrets is not None:
            self._secrets.close()
        self._run_socket.hang_up()
        self._assignment, self._logs, self._secrets = None, None, None
        self._undelivered = self._started = False

    def _deliver(self) -> None:
        a = self._assignment
        if a is None or not self._undelivered or not self._greeted:
            return
        message: wire.Message = {
            "type": wire.ASSIGN,
            "attempt": a.attempt,
            "run": {
                "id": a.run,
                "attempt": a.number,
                "task": a.task,
                "project": a.project,
                "version": a.version,
                "tags": a.tags,
                "trace_id": a.trace_id,
            },
            "start": a.limits.start,
            "isolation": a.limits.isolation,
            "payload": a.payload,
            "checkpoints": [c.model_dump() for c in a.checkpoints],
            "checkpoints_complete": a.checkpoints_complete,
            "waits": [w.model_dump() for w in a.waits],
            "secrets": a.secrets,
            "ticket": ticket_of(a.secret),
        }
        if self.listener.send(message):
            self._undelivered = False

    def _lost_connection(self) -> None:
        self._greeted = False
        self._events.add(self.name, "disconnected", attempt=self._assignment.attempt if self._assignment else None)


async def _never() -> None:
    """For an answer that is short."""
