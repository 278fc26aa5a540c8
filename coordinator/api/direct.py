"""A short way for what is asked most: every checkpoint and log line comes along it, and every small trigger.

It does what FastAPI does for a route with a model as its body, and answers refusals as the application does, but
looks up the route in a dictionary and asks for nothing else. Below it, the gate has let the request in already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.api.reading import parse_in_turn
from coordinator.context import Coordinator
from coordinator.foundation.errors import CoordinatorError

M = TypeVar("M", bound=BaseModel)

#: The answer: whole, or its body as JSON.
Answer = Response | bytes | BaseModel
Handle = Callable[[Coordinator, str, Any], Awaitable[Answer]]
Refuse = Callable[[Request, Exception], Awaitable[Response]]
#: The refusal that a call of this path would have been answered with.
RefusePart = Callable[[str, Exception], Awaitable[Response]]
HandleRaw = Callable[[Coordinator, str, bytes, RefusePart], Awaitable[Response]]

_JSON = b"application/json"


class Route(NamedTuple):
    """What `POST {prefix}{name}/{action}` takes, and what does it, given the name and the body."""

    model: type[BaseModel]
    handle: Handle


class Raw(NamedTuple):
    """The same for a body that is no JSON, of `most` bytes; it is given how to refuse a part of it, by its path."""

    handle: HandleRaw
    most: int


class Way(NamedTuple):
    """Where requests go this way: the prefix of their paths, and what is done by its action."""

    prefix: str
    writes: Mapping[str, Route | Raw]
    #: Bytes of the largest body that goes this way; a larger one goes the usual way, and does the same there.
    most: int | None = None


class Direct:
    """ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        coordinator: Coordinator,
        ways: Sequence[Way],
        refusals: Mapping[type[Exception], Refuse],
    ) -> None:
        self._app = app
        self._core = coordinator
        self._ways = ways
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, route = self._find(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        try:
            if isinstance(route, Raw):
                response = await route.handle(self._core, name, await _read(receive, route.most), self._refuse_part)
            else:
                data = await _read(receive)
                body = validated(route.model, data, await parse_in_turn(data) if data else None)
                response = _response(await route.handle(self._core, name, body))
        except (CoordinatorError, RequestValidationError, HTTPException) as error:
            response = await self._refuse(scope, error)
        await response(scope, receive, send)

    async def _refuse(self, scope: Scope, error: Exception) -> Response:
        refuse = next(self._refusals[kind] for kind in type(error).__mro__ if kind in self._refusals)
        return await refuse(Request(scope), error)

    async def _refuse_part(self, path: str, error: Exception) -> Response:
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [],
            "query_string": b"",
            "scheme": "http",
        }
        return await self._refuse(scope, error)

    def _find(self, scope: Scope) -> tuple[str, Route | Raw | None]:
        if scope["type"] == "http" and scope["method"] == "POST":
            for way in self._ways:
                if scope["path"].startswith(way.prefix):
                    name, _, action = scope["path"][len(way.prefix) :].rpartition("/")
                    fits = name and (way.most is None or _is_json(scope, way.most))
                    return name, way.writes.get(action) if fits else None
        return "", None


def _is_json(scope: Scope, most: int) -> bool:
    """Whether the body says that it is JSON of at most `most` bytes."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    return headers.get(b"content-type") == _JSON and length.isdigit() and int(length) <= most


def _response(answer: Answer) -> Response:
    if isinstance(answer, Response):
        return answer
    return Response(content(answer), media_type="application/json")


def content(answer: bytes | BaseModel) -> bytes:
    """An answer as JSON."""
    return answer if isinstance(answer, bytes) else answer.model_dump_json().encode()


async def _read(receive: Receive, most: int | None = None) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the body broke off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if most is not None and size > most:
            raise HTTPException(413, f"the request is larger than {most} bytes")
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def validated(model: type[M], body: bytes, value: Any) -> M:
    """Raises RequestValidationError with the places as FastAPI gives them."""
    if not body:
        raise RequestValidationError(
            [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(problems) from None
