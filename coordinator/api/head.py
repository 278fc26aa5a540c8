"""HEAD wherever GET is: load balancers, uptime checks and link previews ask so."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """ASGI middleware: a HEAD goes in as a GET, and comes out with its status and headers, and without a body.

    A stream ends with its headers. The server is left with the scope that it made, and so knows that no body comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = cut = False

        async def headers_only(message: Message) -> None:
            nonlocal ended, cut
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                if message.get("more_body", False):
                    cut = True
                    answering.cancel()

        async def answer() -> None:
            await self._app({**scope, "method": "GET"}, receive, headers_only)

        answering = asyncio.ensure_future(answer())
        try:
            await answering
        except asyncio.CancelledError:
            if not cut:
                raise
