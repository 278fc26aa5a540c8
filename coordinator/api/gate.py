"""The gate before every route: who may call what, and how much a body may hold.

It stands before the body is read, so that nobody without a key can make the coordinator parse anything:

    /api/v1/*                        a key that scopes.py lets call it
    /internal/v1/attempts/{id}/lost  a key with the role runner
    /internal/v1/attempts/{id}/*     that attempt's own secret
    /internal/v1/*                   a key with the role runner
    anything else                    open: health, the OpenAPI document, webhooks (which check signatures), tokens
                                     (whose ids nobody can guess)
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.api import scopes
from coordinator.context import Coordinator
from coordinator.foundation.errors import CoordinatorError, Forbidden, StorageUnavailable, TooLarge, Unauthenticated
from coordinator.foundation.limits import MAX_BODY, MAX_DELIVERY, MAX_TOKEN_VALUE
from coordinator.wire import API, FLEET

_UPLOAD = f"{API}/deployments"


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, coordinator: Coordinator) -> None:
        self._app = app
        self._core = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._admit(scope)
            capped = receive
            if scope["path"] != _UPLOAD:  # which counts for itself, and is let further
                most = _most(scope["path"])
                await self._check_length(scope, receive, most)
                capped = _Capped(receive, most)
        except CoordinatorError as error:
            answer = JSONResponse({"error": error.problem().model_dump()}, error.status)
            if isinstance(error, Unauthenticated):
                answer.headers["WWW-Authenticate"] = "Bearer"
            if isinstance(error, StorageUnavailable):
                answer.headers["Retry-After"] = f"{error.retry_after:.0f}"
            await answer(scope, receive, send)
            return
        await self._app(scope, capped, send)

    async def _admit(self, scope: Scope) -> None:
        path: str = scope["path"]
        if path.startswith(f"{FLEET}/attempts/") and not path.endswith("/lost"):
            attempt = path.removeprefix(f"{FLEET}/attempts/").partition("/")[0]
            if not self._core.secrets.check(attempt, _bearer(scope)):
                raise Forbidden(f"this is not the secret of the attempt {attempt}")
        elif path.startswith((f"{API}/", f"{FLEET}/")):
            caller = await self._core.callers.find(_bearer(scope))
            if path.startswith(f"{FLEET}/"):
                if caller.role != "runner":
                    raise Forbidden(f"this key has the role {caller.role}; {path} takes one with the role runner")
                return
            scopes.check_role(caller, scope["method"], path)
            row = scopes.hold(caller, scope)
            if row is not None and caller.project is not None:
                await self._core.database.read(scopes.check_row, caller.project, *row)
            scope.setdefault("state", {})["caller"] = caller

    async def _check_length(self, scope: Scope, receive: Receive, most: int) -> None:
        length = _header(scope, b"content-length")
        if length.isdecimal() and int(length) > most:
            # read, so that the sender gets to hear the answer, unless it is absurd
            seen = 0
            while seen < 16 * most:
                message = await receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
            raise _too_large(most)


def _most(path: str) -> int:
    """What a body may hold: less where nobody has shown a key."""
    if path.startswith("/hooks/"):
        return MAX_DELIVERY
    return MAX_TOKEN_VALUE if path.startswith("/tokens/") else MAX_BODY


class _Capped:
    """A body without a stated length, counted as it comes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._seen = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            # the one exception that FastAPI lets through from the reading of a body
            raise HTTPException(413, _too_large(self._most).message)
        return message


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the request is larger than {most} bytes")


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _bearer(scope: Scope) -> str:
    scheme, _, key = _header(scope, b"authorization").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise Unauthenticated("send a key: Authorization: Bearer <key>")
    return key
