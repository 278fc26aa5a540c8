"""A container as the sidecar knows it: which attempt runs in it, and what each of its requests means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError
from samovar import wire

from coordinator import wire as fleet
from sidecar.connection import Listener
from sidecar.errors import Refused, Stale
from sidecar.events import EventLog
from sidecar.logs import Budget, LogStream
from sidecar.pace import Pace
from sidecar.ticket import Ticket
from sidecar.upstream import Upstream

log = structlog.get_logger()

#: Of one container, a second and at once: each is a transaction of the coordinator's database.
_WRITES = (300.0, 1000)
_REPORTS = (10.0, 20)


class Container:
    """Binds one container to at most one attempt, and speaks to the coordinator in that attempt's name.

    The container never names its attempt's token or secret: both come from the runner and stay here. A
    request that names another attempt than the bound one is refused.
    """

    def __init__(
        self, name: str, directory: Path, ticket: Ticket, upstream: Upstream, events: EventLog, budget: Budget
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._events = events
        self._budget = budget
        self._assignment: fleet.Assignment | None = None
        self._start: fleet.Start = "cold"
        #: An assignment that has not been put onto a connection yet.
        self._undelivered = False
        #: Whether the container has said that the bound attempt has begun.
        self._started = False
        self._logs: LogStream | None = None
        self._finished: str | None = None
        self._greeted = False
        self._in_order = asyncio.Lock()
        self._writes = Pace(*_WRITES)
        self._reports = Pace(*_REPORTS)
        self.listener = Listener(directory, ticket, self._handle, self._lost_connection)
        self._handlers: dict[str, Callable[[wire.Message, fleet.Assignment], Awaitable[dict[str, Any]]]] = {
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
            directory=str(self.listener.directory),
            connected=self._greeted,
            attempt=self._assignment.attempt if self._assignment else None,
            finished=self._finished,
        )

    def assign(self, assignment: fleet.Assignment, start: fleet.Start) -> None:
        """Binds `assignment` and hands it over, now or when the container connects."""
        self._bind(assignment, start)
        self._undelivered = True
        self._deliver()

    def resume(self, assignment: fleet.Assignment, start: fleet.Start, *, undelivered: bool) -> None:
        """Binds an assignment from before this sidecar or the runner began anew.

        Only the container knows whether it has it: its hello decides what `undelivered` leaves open.
        """
        if self._assignment is None or self._assignment.attempt != assignment.attempt:
            self._bind(assignment, start)
            self._undelivered = undelivered
        elif self._started:
            # once more, for a runner that was not there to hear it: it would take the run for one that never began
            self._events.add(self.name, "started", attempt=assignment.attempt)

    def cancel(self, body: fleet.CancelAttempt) -> bool:
        """Whether the container was told to end the attempt."""
        if self._assignment is None or self._assignment.attempt != body.attempt:
            return False
        return self.listener.send({"type": wire.CANCEL, **body.model_dump()})

    def close(self) -> None:
        """Stops listening, for this sidecar to end while its containers go on."""
        self._unbind()
        self.listener.close()

    def remove(self) -> None:
        """Stops listening for good: the container is gone."""
        self._unbind()
        self.listener.remove()

    # ------------------------------------------------------------ what the container says

    async def _handle(self, request: wire.Message) -> wire.Message:
        kind = request.get("type")
        if kind == wire.HELLO:
            return self._on_hello(request)
        if not self._greeted:
            return wire.refusal(request, "no_hello", "say hello first")
        if kind == wire.READY:
            return self._on_ready(request)
        handler = self._handlers.get(str(kind))
        if handler is None:
            return wire.refusal(request, "unknown_type", f"{kind!r} is none of {sorted(wire.REQUESTS)}")
        assignment = self._assignment
        if assignment is None or request.get("attempt") != assignment.attempt:
            return wire.refusal(request, "stale_attempt", f"attempt {request.get('attempt')!r} is not bound here")
        try:
            return wire.reply(request, **await handler(request, assignment))
        except Stale as error:
            if self._assignment is assignment:
                self._unbind()
                self._events.add(self.name, "stale", attempt=assignment.attempt)
            return wire.refusal(request, "stale_attempt", str(error))
        except Refused as error:
            return wire.refusal(request, error.code, str(error), status=error.status, fields=error.fields)
        except ValidationError as error:
            return wire.refusal(request, "bad_request", _sentence(str(kind), error))

    def _on_hello(self, request: wire.Message) -> wire.Message:
        if request.get("protocol") != wire.PROTOCOL:
            return wire.refusal(request, "protocol", f"this sidecar speaks protocol {wire.PROTOCOL}")
        # kept before anything is said: as soon as process 1 hears from here, user code may exist
        ticket = self.listener.ticket.give()
        self._greeted = True
        running = request.get("attempt")
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
            self._events.add(self.name, "stale", attempt=str(running))
        self._deliver()
        return wire.reply(request, ticket=ticket)

    def _on_ready(self, request: wire.Message) -> wire.Message:
        error = request.get("error")
        try:
            body = fleet.ErrorBody.model_validate(error) if error else None
        except ValidationError as problem:
            body = fleet.ErrorBody(type="ImportError", message=_sentence("ready", problem))
        self._events.add(self.name, "ready", error=body, memory=_bytes(request.get("memory")))
        return wire.reply(request)

    async def _on_started(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        self._started = True
        self._events.add(self.name, "started", attempt=a.attempt)
        async with self._in_order:
            await self._post(a, "start", fleet.Started(token=a.token, start=self._start))
        return {}

    async def _on_checkpoint_get(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        await self._writes.turn()
        body = fleet.CheckpointGet(token=a.token, key=request.get("key", ""))
        return await self._post(a, "checkpoint-get", body)

    async def _on_checkpoint_put(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        await self._writes.turn()
        # popped, so that nobody holds the value as objects while it is on its way as text
        body = fleet.CheckpointPut(token=a.token, key=request.get("key", ""), value=request.pop("value", None))
        posting = self._upstream.post(a.attempt, "checkpoint", a.secret, body)
        del body
        return await posting

    async def _on_log(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        logs = self._logs
        assert logs is not None  # bound together with the assignment
        await logs.add(fleet.AttemptLogs(token=a.token, lines=request.get("lines") or []).lines)
        return {}

    async def _on_report(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        await self._reports.turn()
        body = fleet.Report(token=a.token, progress=request.get("progress"), metadata=request.get("metadata"))
        return await self._post(a, "report", body)

    async def _on_extend(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        await self._writes.turn()
        body = fleet.Extend(token=a.token, seconds=request.get("seconds", 0))
        answer = await self._post(a, "extend", body)
        self._events.add(self.name, "extended", attempt=a.attempt, seconds=body.seconds)
        return answer

    async def _on_wait(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        await self._writes.turn()
        body = fleet.WaitCall(
            token=a.token,
            key=request.get("key", ""),
            kind=request.get("kind"),
            name=request.get("name"),
            spec=request.pop("spec", None) or {},
        )
        posting = self._upstream.post(a.attempt, "wait", a.secret, body)
        del body
        return await posting

    async def _on_wait_result(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        await self._writes.turn()
        body = fleet.WaitResultGet(token=a.token, key=request.get("key", ""), index=request.get("index", 0))
        return await self._post(a, "wait-result", body)

    async def _on_finish(self, request: wire.Message, a: fleet.Assignment) -> dict[str, Any]:
        container = _mapping(request.get("container"))
        clean = container.get("clean") is True and not container.get("oom_kills")
        assert self._logs is not None
        await self._logs.drained()
        self._events.add(self.name, "ending", attempt=a.attempt, clean=clean)
        try:
            body = _finish(request, a.token)
            # a run shorter than the coordinator's answer to its start would otherwise end before it began
            async with self._in_order:
                await self._post(a, "finish", body)
        except (Refused, ValidationError) as refused:
            # an end that can't be taken as it is still has to end the run, and say why: nobody else would before
            # the task's timeout. What is left of it is made here
            body = fleet.Finish(
                token=a.token,
                outcome="failed",
                error=fleet.ErrorBody(type="ResultRefused", message=_sentence("finish", refused)),
                retry=fleet.Retry(allowed=False),
            )
            await self._post(a, "finish", body)
        self._finished = a.attempt
        if self._assignment is a:
            self._unbind()
        self._events.add(
            self.name,
            "finished",
            attempt=a.attempt,
            outcome=body.outcome,
            reason=body.error.reason if body.error else None,
            clean=clean,
            memory=_bytes(container.get("memory")),
        )
        return {}

    # ------------------------------------------------------------

    async def _post(self, a: fleet.Assignment, action: str, body: BaseModel) -> dict[str, Any]:
        return await self._upstream.post(a.attempt, action, a.secret, body)

    def _bind(self, assignment: fleet.Assignment, start: fleet.Start) -> None:
        self._unbind()
        self._assignment = assignment
        self._start = start

        async def send(lines: list[fleet.AttemptLogLine]) -> None:
            try:
                await self._post(assignment, "logs", fleet.AttemptLogs(token=assignment.token, lines=lines))
            except (Stale, Refused) as error:
                # the next write of the attempt says so too, to somebody who can act on it
                log.warning("log lines refused", attempt=assignment.attempt, problem=str(error))

        self._logs = LogStream(send, self._upstream.away, self._budget)

    def _unbind(self) -> None:
        if self._logs is not None:
            self._logs.close()
        self._assignment, self._logs, self._undelivered, self._started = None, None, False, False

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
            "payload": a.payload,
            "checkpoints": [c.model_dump() for c in a.checkpoints],
            "checkpoints_complete": a.checkpoints_complete,
            "waits": [w.model_dump() for w in a.waits],
        }
        if self.listener.send(message):
            self._undelivered = False

    def _lost_connection(self) -> None:
        self._greeted = False
        self._events.add(self.name, "disconnected", attempt=self._assignment.attempt if self._assignment else None)


def _finish(request: wire.Message, token: int) -> fleet.Finish:
    usage = _mapping(request.get("usage"))
    return fleet.Finish.model_validate(
        {
            "token": token,
            "outcome": request.get("outcome"),
            "result": request.get("result"),
            "error": request.get("error"),
            "retry": request.get("retry") or {},
            "waits": request.get("waits") or [],
            "lines": request.get("lines") or [],
            "exit_code": usage.get("exit_code"),
            "peak_memory_bytes": usage.get("peak_memory_bytes"),
        }
    )


def _sentence(kind: str, error: Refused | ValidationError) -> str:
    if isinstance(error, Refused):
        return str(error)
    first = error.errors()[0]
    # a value nested without end has a place as long
    where = ".".join(map(str, first["loc"][:8]))
    return f"{kind}: {where}: {first['msg']}"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _bytes(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
