"""Files that a page links to: the API's own answers, passed on as they come to whoever is signed in."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from coordinator.api.inside import INSIDE
from coordinator.dashboard import rendering
from coordinator.dashboard.pages import to_login
from coordinator.dashboard.rendering import segment
from coordinator.wire import API


class Passed:
    """An address whose answer is that of `path` below /api/v1, with what the address has between braces put in."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        caller = scope.get("state", {}).get("caller")
        if caller is None:
            await to_login(request)(scope, receive, send)
            return
        path = API + self._path.format(**{name: segment(value) for name, value in request.path_params.items()})
        inner = {**scope, "path": path, "raw_path": quote(path).encode(), "state": {}, INSIDE: caller}
        headers = [(name.lower().encode(), value.encode()) for name, value in rendering.HEADERS.items()]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await scope["app"](inner, receive, with_headers)


ROUTES = [
    Route("/runs/{run}/logs/download", Passed("/runs/{run}/logs/download"), methods=["GET"]),
    Route("/runs/{run}/checkpoints/download", Passed("/runs/{run}/checkpoints"), methods=["GET"]),
    Route("/files/{file}", Passed("/files/{file}/content"), methods=["GET"]),
]
