"""The API as the dashboard asks it: in this process, by the same routes, gate and scopes as everybody else.

A page has no way to the database of its own. What it shows and does is what its session's key could ask for, and
every refusal, limit and entry in the audit is that of the API.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.types import Message

from coordinator.access.keys import Caller
from coordinator.api import scopes
from coordinator.foundation.errors import Forbidden
from coordinator.wire import API

#: The cookie of a session.
COOKIE = "samovar_session"
#: Under which a request from inside says in its scope who asks.
INSIDE = "samovar.inside"
#: Pages whose forms carry a payload.
FORMS_WITH_VALUES = ("/replay", "/trigger")

Values = dict[str, Any]


class Refusal(Exception):
    """What the API has answered instead."""

    def __init__(self, status: int, code: str, message: str, fields: list[Values]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        #: `path` and `message` of each field that is wrong.
        self.fields = fields


class Api:
    """The API for the one who is signed in. Paths are those below /api/v1."""

    def __init__(self, request: Request, caller: Caller) -> None:
        self._app = request.app
        self._scope = request.scope
        self._caller = caller

    async def get(self, path: str, **query: Any) -> Values:
        """The answer. `query`: what is None is left out, a list is given once for each. Raises Refusal."""
        return await self.ask("GET", path, query=query)

    async def ask(self, method: str, path: str, body: Any = None, query: Values | None = None) -> Values:
        status, content = await self._call(method, path, body, query or {})
        answer: Values = json.loads(content) if content else {}
        if status >= 400:
            error = answer["error"]
            raise Refusal(status, error["code"], error["message"], error.get("fields") or [])
        return answer

    def forbids(self, method: str, path: str) -> str | None:
        """Why the key's role may not do this, with the roles that may; None where it may."""
        try:
            scopes.check_role(self._caller, method, API + path)
        except Forbidden as error:
            return error.message
        return None

    async def _call(self, method: str, path: str, body: Any, query: Values) -> tuple[int, bytes]:
        sent = b"" if body is None else json.dumps(body).encode()
        pairs = [(name, value) for name, value in query.items() if value not in (None, "", [])]
        whole = API + path
        scope = {
            "type": "http",
            "asgi": self._scope["asgi"],
            "http_version": "1.1",
            "method": method,
            "scheme": self._scope.get("scheme", "http"),
            "path": whole,
            "raw_path": quote(whole).encode(),
            "root_path": "",
            "query_string": urlencode(pairs, doseq=True).encode(),
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode())],
            "client": self._scope.get("client"),
            "server": self._scope.get("server"),
            "state": {},
            INSIDE: self._caller,
        }
        incoming = [{"type": "http.request", "body": sent, "more_body": False}]
        status, parts = 500, []

        async def receive() -> Message:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        with suppress(Exception):  # it is raised after it was answered, for the server's log, which has it by now
            await self._app(scope, receive, send)
        if not parts:
            raise Refusal(500, "internal", "the coordinator failed; its log says why", [])
        return status, b"".join(parts)
