"""The gate before every route: who may call what, how much a body may hold, and how much may be in flight.

It stands before the body is read, so that nobody without a key can make the coordinator parse anything:

    /api/v1/*                        a key that scopes.py lets call it
    /internal/v1/attempts/{id}/lost  a key with the role runner, bound to the runner that has the attempt
    /internal/v1/attempts/{id}/*     that attempt's own secret
    /internal/v1/runners/{id}/enrol  a host's token, or a key with the role runner that is bound to none or this one
    /internal/v1/*                   a key with the role runner, bound to the runner that it is about
    pages of the dashboard           a session, where there is one; what a page shows and does it asks of /api/v1,
                                     from inside, as the session's key (api/inside.py)
    anything else                    open: health, the OpenAPI document, webhooks (which check signatures), tokens
                                     (whose ids nobody can guess)

Each caller has its budget (budgets.py) and its line for the database's threads (foundation/turns.py): what is
written for attempts waits in a line of their project, and what runners ask in the coordinator's own, which others
can't fill. Which listener a request may come in by is looked at before (doors.py).
"""

from __future__ import annotations

import math
import re
from contextlib import suppress

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.access import audit, hosts
from coordinator.access.audit import Act
from coordinator.access.keys import SHARED, Caller, hash_key
from coordinator.api import acts, budgets, scopes
from coordinator.api.bodies import Bodies
from coordinator.api.budgets import Budgets, Ticket
from coordinator.api.capped import Capped
from coordinator.api.doors import BY_FLEET
from coordinator.api.inside import COOKIE, INSIDE
from coordinator.context import Coordinator
from coordinator.foundation import sight, turns
from coordinator.foundation.errors import (
    CoordinatorError,
    Forbidden,
    RateLimited,
    StorageUnavailable,
    Unauthenticated,
)
from coordinator.storage import deeds
from coordinator.wire import API, FLEET

_UPLOAD = f"{API}/deployments"
_ENROL = re.compile(rf"{FLEET}/runners/[^/]+/enrol")
#: The line of those who ask after health.
_HEALTH = "health"
#: What needs nobody who is signed in.
_OPEN = ("/hooks/", "/tokens/", "/healthz", "/readyz", "/openapi.json", "/static/")


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, coordinator: Coordinator) -> None:
        self._app = app
        self._core = coordinator
        self._budgets = Budgets()
        self._bodies = Bodies()
        self._refusals = audit.Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ticket: Ticket | None = None
        turn: Capped | None = None
        deed: Act | None = None
        noting = deeds.current.set(None)
        # (routes are held to a project by changing it)
        path = scope["path"]
        line, seen = turns.lane.set(turns.OWN), sight.project.set(None)
        try:
            ticket = await self._admit(scope)
            capped = receive
            if scope["path"] != _UPLOAD:  # which counts for itself, and is let further
                bodies = self._bodies if _takes_turns(scope) else None
                capped = turn = Capped(receive, scope["path"], ticket, _length(scope), bodies)
            deed = self._deed(scope, path)
            deeds.current.set(deed)
            await self._app(scope, capped, self._watched(scope, self._noted(send, deed)))
        except CoordinatorError as error:
            # raised before anything was answered, and before a byte of the body was read: the server passes over it
            answer = JSONResponse({"error": error.problem().model_dump()}, error.status)
            if isinstance(error, Unauthenticated):
                answer.headers["WWW-Authenticate"] = "Bearer"
            if isinstance(error, (RateLimited, StorageUnavailable)):
                answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
            if (
                deed is None
                and (caller := scope.get("state", {}).get("asking")) is not None
                and error.status != 429
            ):
                act = acts.refusal(scope["method"], path, scope, _address(scope), caller)
                await self._refused(act, error.status)
            await answer(scope, receive, send)
        finally:
            if turn is not None:
                turn.close()
            deeds.current.reset(noting)
            turns.lane.reset(line)
            sight.project.reset(seen)
            if ticket is not None:
                ticket.close()

    def _deed(self, scope: Scope, path: str) -> Act | None:
        if scope["method"] in ("GET", "HEAD") or (path.startswith(f"{FLEET}/") and not path.endswith("/enrol")):
            return None
        caller = scope.get("state", {}).get("caller")
        return acts.act(scope["method"], path, scope, _address(scope), caller)

    def _noted(self, send: Send, deed: Act | None) -> Send:
        """Notes what a route refuses, before it is answered."""
        if deed is None or deed.caller is None:
            return send

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 403:
                deeds.current.set(None)
                await self._refused(deed, 403)
            await send(message)

        return noted

    async def _refused(self, act: Act, status: int) -> None:
        """Notes what a key may not do. Where that can't be written, the answer was given all the same."""
        if status not in (403, 404) or act.caller is None:
            return
        others = self._refusals.admit(act.caller.id)
        if others is not None:
            with suppress(CoordinatorError):
                await self._core.database.write(audit.refused, act, status, others)

    def _watched(self, scope: Scope, send: Send) -> Send:
        """Counts what an address without a key has sent wrongly."""
        if not scope["path"].startswith(("/hooks/", "/tokens/", "/login")):
            return send

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (401, 404, 405):
                self._budgets.wrong(_address(scope))
            await send(message)

        return watched

    async def _admit(self, scope: Scope) -> Ticket:
        path: str = scope["path"]
        if path.startswith(f"{FLEET}/attempts/") and not path.endswith("/lost"):
            attempt = path.removeprefix(f"{FLEET}/attempts/").partition("/")[0]
            if not self._core.secrets.check(attempt, _bearer(scope)):
                raise Forbidden(f"this is not the secret of the attempt {attempt[:80]}")
            turns.lane.set(await self._core.owners.line(attempt))
            return self._budgets.admit(f"attempt:{attempt}", budgets.ATTEMPT)
        if (inside := scope.get(INSIDE)) is not None:  # the server makes scopes without it
            scope["state"]["asking"] = inside
            return await self._admit_caller(scope, inside, f"page:{inside.id}")
        if path.startswith((f"{API}/", f"{FLEET}/")):
            key = _bearer(scope)
            if key.startswith(hosts.TOKEN_PREFIX) and _ENROL.fullmatch(path):
                turns.lane.set(_nobody(scope))
                scope.setdefault("state", {})["host_token"] = key
                return self._budgets.admit(_nobody(scope), budgets.ADDRESS)
            # until it is known whose key it is, it waits with all of its address; a runner that is known does not
            known = path.startswith(f"{FLEET}/") and self._core.callers.is_known_runner(key)
            turns.lane.set(turns.OWN if known else _nobody(scope))
            caller = await (self._runner_of(key) if path.startswith(f"{FLEET}/") else self._core.callers.find(key))
            scope.setdefault("state", {})["asking"] = caller
            who = f"key:{hash_key(key)[:16]}"
            if path.startswith(f"{FLEET}/"):
                if caller.role != "runner":
                    raise Forbidden(f"this key has the role {caller.role}; {path} takes one with the role runner")
                turns.lane.set(turns.OWN)
                ticket = self._budgets.admit(who, budgets.RUNNER, poll=_is_poll(scope))
                try:
                    caller = await self._hold_runner(caller, key, path)
                except BaseException:
                    ticket.close()
                    raise
                state = scope.setdefault("state", {})
                state["caller"], state["key"] = caller, key
                return ticket
            ticket = await self._admit_caller(scope, caller, who)
            scope["state"]["key"] = key
            return ticket
        address = _address(scope)
        if (cookie := _cookie(scope)) and not path.startswith(_OPEN):
            turns.lane.set(_nobody(scope))
            with suppress(Unauthenticated):  # who is not signed in is led to where that is done
                caller = await self._core.callers.of_session(cookie)
                self._line(caller, f"page:{caller.id}")
                scope.setdefault("state", {}).update(caller=caller, session=cookie)
                return self._budgets.admit(f"session:{hash_key(cookie)[:16]}", budgets.KEY, poll=_is_poll(scope))
        if path.startswith(("/hooks/", "/tokens/", "/login")):
            self._budgets.check_address(address)
        # of health all are one line: it is asked from an address that others may have too, and is not our own
        turns.lane.set(_HEALTH if path.startswith(("/healthz", "/readyz")) else _nobody(scope))
        return self._budgets.admit(_nobody(scope), budgets.ADDRESS)

    async def _admit_caller(self, scope: Scope, caller: Caller, who: str) -> Ticket:
        """A request to /api/v1 of this caller, held to what its key may do."""
        self._line(caller, who)
        scopes.check_role(caller, scope["method"], scope["path"])
        ticket = self._budgets.admit(who, budgets.KEY, poll=_is_poll(scope))
        try:
            row = scopes.hold(caller, scope)
            if row is not None and caller.project is not None:
                await self._core.database.read(scopes.check_row, caller.project, *row)
        except BaseException:
            ticket.close()
            raise
        scope.setdefault("state", {})["caller"] = caller
        return ticket

    def _line(self, caller: Caller, who: str) -> None:
        """Which line its reads wait in, and what it may hear of."""
        turns.lane.set(f"project:{caller.project}" if caller.project is not None else who)
        sight.project.set(caller.project)

    async def _runner_of(self, key: str) -> Caller:
        """Whose the key is. Raises Unauthenticated, saying how a host is let in."""
        try:
            caller = await self._core.callers.find(key)
        except Unauthenticated:
            raise hosts.not_let_in() from None
        # (one that a coordinator of an earlier version has put into force again, on the same database)
        if caller.runner == SHARED:
            raise hosts.not_let_in()
        return caller

    async def _hold_runner(self, caller: Caller, key: str, path: str) -> Caller:
        """Keeps a runner's key to its runner: what it acts as, and what it writes for. Raises Forbidden."""
        database = self._core.database
        kind, name, action = (*path.removeprefix(f"{FLEET}/").split("/", 2), "", "")[:3]
        if kind == "runners" and action != "enrol":
            if caller.runner is None:
                await database.write(hosts.bind, caller, name)
                self._core.callers.forget()
                return await self._core.callers.find(key)
            elif caller.runner != name:
                raise hosts.not_theirs(caller.runner, f"act as {name[:80]!r}")
        elif kind == "attempts":
            await database.read(hosts.check_attempt, caller, name)
        elif kind == "builds":
            await database.read(hosts.check_build, caller, name)
        return caller


def _takes_turns(scope: Scope) -> bool:
    """Whether its body waits for those of its line: not what runners ask, and not what a page asks from inside, for
    the page has its turn already.
    """
    path: str = scope["path"]
    if path.startswith(f"{FLEET}/"):
        return path.startswith(f"{FLEET}/attempts/") and not path.endswith("/lost")
    return scope.get(INSIDE) is None


def _is_poll(scope: Scope) -> bool:
    """Whether the request may be held: those that wait for something, and streams."""
    path: str = scope["path"]
    if path.startswith(f"{FLEET}/"):
        return path.endswith(("/claim", "/commands"))
    return scope["method"] in ("GET", "HEAD") and path.endswith(("/wait", "/stream", "/log", "/live"))


def _length(scope: Scope) -> int:
    length = _header(scope, b"content-length")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else 0


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _nobody(scope: Scope) -> str:
    """The line and the budget of an address whose key is not known, at the listener that it came in by."""
    return f"{'fleet' if scope.get(BY_FLEET) else 'address'}:{_address(scope)}"


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _cookie(scope: Scope) -> str:
    """The dashboard's session, empty for none."""
    for part in _header(scope, b"cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and len(value) < 100:
            return value
    return ""


def _bearer(scope: Scope) -> str:
    scheme, _, key = _header(scope, b"authorization").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > 1024:
        raise Unauthenticated("send a key: Authorization: Bearer <key>")
    return key
