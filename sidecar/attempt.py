"""An attempt as it is bound to a container: what each of its requests means, and how it is sent in its name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

import structlog
from pydantic import BaseModel, ValidationError
from samovar import wire

from coordinator import wire as fleet
from sidecar import accounts, envelope
from sidecar.egress.records import Entry
from sidecar.envelope import WHOLE, Request
from sidecar.errors import Refused, Stale
from sidecar.events import EventLog
from sidecar.files import Files
from sidecar.lines import Large
from sidecar.logs import Budget, LogStream
from sidecar.pace import Pace
from sidecar.reaching import Reaching
from sidecar.redaction import NOTHING, Redactor
from sidecar.run_socket import Answer, Visit, ticket_of
from sidecar.secrets import Secrets
from sidecar.upstream import Upstream

log = structlog.get_logger()

#: Of one container, a second and at once: each is a transaction of the coordinator's database.
_WRITES = (300.0, 1000)
_REPORTS = (10.0, 20)
#: What the runner hears of: it acts on each.
_EVENTS = (5.0, 20)
#: The logger of lines about what an attempt reaches.
_EGRESS = "samovar.egress"


class Paces:
    """How fast one container may ask, whichever attempt is bound to it."""

    def __init__(self) -> None:
        self.writes = Pace(*_WRITES)
        self.reports = Pace(*_REPORTS)
        self.told = Pace(*_EVENTS)


class Place(NamedTuple):
    """What an attempt finds in its container."""

    container: str
    upstream: Upstream
    events: EventLog
    budget: Budget
    #: Held by a request, or an answer, that is large: one of a container at a time.
    large: Large
    paces: Paces
    files: Files
    reaching: Reaching

    async def post(
        self,
        a: fleet.Assignment,
        action: str,
        values: dict[str, Sequence[bytes]],
        body: BaseModel,
        large: Callable[[], Awaitable[None]],
    ) -> bytes:
        """The coordinator's answer to `body` with `values` in it, which are JSON. Raises Stale, Refused."""
        fields = body.model_dump_json(exclude=set(values)).encode()
        return await self.upstream.post(
            a.project, self.container, a.attempt, action, a.secret, envelope.body(values, fields), large
        )


class Start(NamedTuple):
    """How an attempt came to its container. `took` gives the seconds until process 1 had connected, and from then
    until the modules were imported.
    """

    kind: fleet.Start
    placing: fleet.Placing | None
    took: Callable[[], tuple[float | None, float | None]]


class Attempt:
    """Bound from its assignment to its end.

    The container never names its attempt's token or secret: both come from the runner and stay here.
    """

    def __init__(self, place: Place, assignment: fleet.Assignment, start: Start, *, resumed: bool) -> None:
        """`resumed`: it began before this sidecar did."""
        self.assignment = assignment
        self.id = assignment.attempt
        self.start = start
        #: Whether the container has said that it has begun.
        self.started = False
        self._place = place
        self._one_log = asyncio.Lock()
        self._logs = logs = LogStream(
            self._send_lines, place.upstream.away, place.budget, project=assignment.project, resumed=resumed
        )

        def say(entry: Entry) -> None:
            logs.say(entry.level, _EGRESS, entry.message)

        place.reaching.bind(assignment, say)
        self._secrets = Secrets(assignment.project, self._fetch_secrets) if assignment.secrets else None
        self._handlers: dict[str, Callable[[Request], Awaitable[bytes]]] = {
            wire.STARTED: self._on_started,
            wire.CHECKPOINT_GET: self._on_checkpoint_get,
            wire.CHECKPOINT_PUT: self._on_checkpoint_put,
            wire.LOG: self._on_log,
            wire.REPORT: self._on_report,
            wire.EXTEND: self._on_extend,
            wire.WAIT: self._on_wait,
            wire.WAIT_RESULT: self._on_wait_result,
        }

    def close(self) -> None:
        """It is bound no longer."""
        self._place.reaching.unbind()
        self._logs.close()
        if self._secrets is not None:
            self._secrets.close()

    async def answer(self, request: Request) -> bytes:
        """Carries out any request but its end. Raises Stale, Refused, ValidationError."""
        return await self._handlers[request.kind](request)

    def message(self) -> wire.Message:
        """What its container is told of it."""
        a = self.assignment
        return {
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

    def asked(self) -> tuple[str, dict[str, Answer]]:
        """Its ticket, and what its process may ask for."""
        a, files = self.assignment, self._place.files

        async def get(visit: Visit) -> None:
            await files.get(visit, a)

        async def put(visit: Visit) -> None:
            await files.put(visit, a)

        found: dict[str, Answer] = {"get": get, "put": put}
        if self._secrets is not None:
            found["secrets"] = self._secrets.give
        return ticket_of(a.secret), found

    # ------------------------------------------------------------ what the container says

    async def _on_started(self, request: Request) -> bytes:
        a, start = self.assignment, self.start
        if self.started:
            # the first of an attempt comes as often as the runner hands one over
            await self._place.paces.told.turn()
        self.started = True
        self._place.events.add(self._place.container, "started", attempt=a.attempt)
        starting, importing = start.took()
        body = fleet.Started(
            token=a.token, start=start.kind, placing=start.placing, starting=starting, importing=importing
        )
        await self._send(request, "start", body)
        return b"{}"

    async def _on_checkpoint_get(self, request: Request) -> bytes:
        await self._place.paces.writes.turn()
        body = fleet.CheckpointGet(token=self.assignment.token, key=accounts.key(request))
        return await self._send(request, "checkpoint-get", body)

    async def _on_checkpoint_put(self, request: Request) -> bytes:
        await self._place.paces.writes.turn()
        took = accounts.milliseconds(request.get("took_ms", most=64))
        key = accounts.key(request)
        body = fleet.CheckpointPut(token=self.assignment.token, key=key, value=None, took_ms=took)
        return await self._send(request, "checkpoint", body, "value")

    async def _on_log(self, request: Request) -> bytes:
        # one at a time: what it takes to look through one is bounded, and their order is kept
        async with self._one_log:
            self._logs.redactor = await self._redactor()
            await self._logs.add(request.raw("lines"))
        return b"{}"

    async def _on_report(self, request: Request) -> bytes:
        await self._place.paces.reports.turn()
        redactor = await self._redactor()
        body = fleet.Report(token=self.assignment.token, curve=accounts.curve(request.get("curve"), redactor))
        if redactor is not NOTHING:
            for name in ("progress", "metadata"):
                request.put(name, accounts.encoded(redactor.tree(request.get(name, most=WHOLE))))
        return await self._send(request, "report", body, "progress", "metadata")

    async def _on_extend(self, request: Request) -> bytes:
        await self._place.paces.told.turn()
        body = fleet.Extend(token=self.assignment.token, seconds=request.get("seconds", 0, most=64))
        answer = await self._send(request, "extend", body)
        self._place.events.add(self._place.container, "extended", attempt=self.id, seconds=body.seconds)
        return answer

    async def _on_wait(self, request: Request) -> bytes:
        await self._place.paces.writes.turn()
        body = fleet.WaitCall(
            token=self.assignment.token,
            key=accounts.key(request),
            kind=request.get("kind", most=64),
            name=request.get("name"),
        )
        if request.raw("spec") == [b"null"]:
            return await self._send(request, "wait", body)
        return await self._send(request, "wait", body, "spec")

    async def _on_wait_result(self, request: Request) -> bytes:
        await self._place.paces.writes.turn()
        index = request.get("index", 0, most=64)
        body = fleet.WaitResultGet(token=self.assignment.token, key=accounts.key(request), index=index)
        return await self._send(request, "wait-result", body)

    async def finish(self, request: Request) -> dict[str, Any]:
        """Its end is at the coordinator: what the runner is to hear of it. Raises Stale."""
        said = monotonic()
        a, place, logs = self.assignment, self._place, self._logs
        account = accounts.of_container(request)
        # one that is still to clean up says so afterwards, and mostly that all is well
        held = request.says_null("container")
        await place.reaching.end(a)
        await logs.drained()
        redactor = logs.redactor = await self._redactor()
        place.events.add(place.container, "ending", attempt=a.attempt, clean=account["clean"] or held)
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
            await place.post(a, "finish", values, body, self._large(request))
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
            await place.post(a, "finish", {}, body, self._large(request))
        return {
            "attempt": a.attempt,
            "outcome": body.outcome,
            "reason": body.error.reason if body.error else None,
            "held": held,
            "peak": body.peak_memory_bytes,
            **account,
        }

    # ------------------------------------------------------------

    async def _send(self, request: Request, action: str, body: BaseModel, *values: str) -> bytes:
        """The answer to `body` with the members `values` of the request in it, as they came."""
        given: dict[str, Sequence[bytes]] = {name: request.raw(name) for name in values}
        for name in values:
            request.drop(name)
        return await self._place.post(self.assignment, action, given, body, self._large(request))

    async def _redactor(self) -> Redactor:
        return NOTHING if self._secrets is None else await self._secrets.redactor()

    async def _send_lines(self, lines: list[bytes]) -> None:
        body = fleet.AttemptLogs(token=self.assignment.token, lines=[])
        values: dict[str, Sequence[bytes]] = {"lines": [b"[", b",".join(lines), b"]"]}
        try:
            await self._place.post(self.assignment, "logs", values, body, never)
        except (Stale, Refused) as error:
            # the next write of the attempt says so too, to somebody who can act on it
            log.warning("log lines refused", attempt=self.id, problem=str(error))

    async def _fetch_secrets(self) -> fleet.SecretValues:
        body = fleet.SecretsGet(token=self.assignment.token)
        answer = await self._place.post(self.assignment, "secrets", {}, body, never)
        return fleet.SecretValues.model_validate_json(answer)

    def _large(self, request: Request) -> Callable[[], Awaitable[None]]:
        """For an answer that is large: there is one of a container here, as there is one such request."""

        async def acquire() -> None:
            if not request.large:
                await self._place.large.acquire()
                request.large = True

        return acquire


async def never() -> None:
    """For an answer that is short."""
