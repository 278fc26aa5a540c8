"""A short way for what is asked most: every checkpoint and log line, every claim, small trigger and wait for a run.

It does what FastAPI does for a route with a model as its body, and answers refusals as the application does, but
looks up the route in a dictionary and asks for nothing else. Below it, the gate has let the request in already.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
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
#: It is given the request, to see whether its caller has gone.
HandleHeld = Callable[[Coordinator, str, Any, Request], Awaitable[Answer]]
Refuse = Callable[[Request, Exception], Awaitable[Response]]
#: The refusal that a call of this path would have been answered with.
RefusePart = Callable[[str, Exception], Awaitable[Response]]
HandleRaw = Callable[[Coordinator, str, bytes, RefusePart], Awaitable[Response]]

_JSON = b"application/json"


class Route(NamedTuple):
    """What `POST {prefix}{name}/{action}` takes, and what does it, given the name and the body."""

    model: type[BaseModel]
    handle: Handle


class Held(NamedTuple):
    """The same for what is answered when there is something, as long as the caller is there."""

    model: type[BaseModel]
    handle: HandleHeld


class Read(NamedTuple):
    """What `GET {prefix}{name}/{action}` gives: the handler has the match of the query string with `query`.

    With another query string it goes the usual way, where it is refused as FastAPI does.
    """

    query: re.Pattern[bytes]
    handle: HandleHeld


class Raw(NamedTuple):
    """The same for a body that is no JSON, of `most` bytes; it is given how to refuse a part of it, by its path."""

    handle: HandleRaw
    most: int


class Way(NamedTuple):
    """Where requests go this way: the prefix of their paths, and what is done by its action."""

    prefix: str
    writes: Mapping[str, Route | Held | Raw]
    #: Bytes of the largest body that goes this way; a larger one goes the usual way, and does the same there.
    most: int | None = None
    reads: Mapping[str, Read] = MappingProxyType({})


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
        answer = self._answer(scope, receive) if scope["type"] == "http" else None
        if answer is None:
            await self._app(scope, receive, send)
            return
        try:
            response = _response(await answer)
        except (CoordinatorError, RequestValidationError, HTTPException) as error:
            response = await self._refuse(scope, error)
        await response(scope, receive, send)

    def _answer(self, scope: Scope, receive: Receive) -> Awaitable[Answer] | None:
        """None for what goes the usual way."""
        path: str = scope["path"]
        way = next((way for way in self._ways if path.startswith(way.prefix)), None)
        if way is None:
            return None
        name, _, action = path[len(way.prefix) :].rpartition("/")
        if scope["method"] == "GET":
            read = way.reads.get(action)
            if read is None or not name or "/" in name:
                return None
            match = read.query.fullmatch(scope["query_string"])
            return None if match is None else read.handle(self._core, name, match, Request(scope, receive))
        route = way.writes.get(action) if scope["method"] == "POST" else None
        if route is None or not name or (way.most is not None and not _is_json(scope, way.most)):
            return None
        return self._write(route, name, scope, receive)

    async def _write(self, route: Route | Held | Raw, name: str, scope: Scope, receive: Receive) -> Answer:
        if isinstance(route, Raw):
            return await route.handle(self._core, name, await _read(receive, route.most), self._refuse_part)
        data = await _read(receive)
        body = validated(route.model, data, await parse_in_turn(data) if data else None)
        if isinstance(route, Held):
            return await route.handle(self._core, name, body, Request(scope, receive))
        return await route.handle(self._core, name, body)

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
