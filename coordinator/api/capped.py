"""What a body may hold, by where it is sent: counted while it comes in, and its ticket charged for it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from coordinator.api.bodies import Bodies, Turn
from coordinator.api.budgets import Ticket
from coordinator.api.inside import FORMS_WITH_VALUES
from coordinator.foundation import turns
from coordinator.foundation.errors import RateLimited, TooLarge
from coordinator.foundation.limits import (
    FILE_PART,
    MAX_BODY,
    MAX_DELIVERY,
    MAX_EVENT,
    MAX_SMALL_BODY,
    MAX_TOKEN_VALUE,
    MAX_VALUE,
    MAX_VALUE_BODY,
)
from coordinator.wire import API, FLEET


class Capped:
    """A body, counted as it comes; one that says that it is too large is refused before any of it is read.

    When all of it is there it waits for its turn among its project's (bodies.py), and has it until it is closed.
    """

    def __init__(self, receive: Receive, path: str, ticket: Ticket, stated: int, bodies: Bodies | None) -> None:
        most = _most(path)
        if stated > most:
            raise _too_large(path)
        ticket.take(stated)
        self._receive, self._most, self._ticket, self._path = receive, most, ticket, path
        self._seen, self._taken = 0, stated
        self._bodies = bodies
        self._turn: Turn | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            # the one exception that FastAPI lets through from the reading of a body
            raise HTTPException(413, _too_large(self._path).message)
        if self._seen > self._taken:
            try:
                self._ticket.take(self._seen - self._taken)
            except RateLimited as error:
                raise HTTPException(429, error.message, {"Retry-After": "1"}) from None
            self._taken = self._seen
        if (
            self._bodies is not None
            and self._turn is None
            and self._seen
            and message["type"] == "http.request"
            and not message.get("more_body", False)
        ):
            self._turn = await self._bodies.take(turns.lane.get(), self._seen)
        return message

    def close(self) -> None:
        if self._bodies is not None and self._turn is not None:
            self._bodies.give(self._turn)


def _most(path: str) -> int:
    """What a body may hold: that of the value that it carries, and less where nobody has shown a key."""
    if path.startswith("/hooks/"):
        return MAX_DELIVERY
    if path.startswith("/tokens/"):
        return MAX_TOKEN_VALUE
    if path.startswith(f"{FLEET}/"):
        return MAX_BODY
    if path.startswith(f"{API}/tasks/") or (path.startswith(f"{API}/runs/") and path.endswith("/replay")):
        return MAX_VALUE_BODY
    if path == f"{API}/events":
        return 2 * MAX_EVENT
    if path.startswith(f"{API}/files/"):
        return FILE_PART
    if path.endswith(FORMS_WITH_VALUES):
        return 2 * MAX_VALUE_BODY  # a form's text, in which a quotation mark takes three bytes
    return MAX_SMALL_BODY


def _field(path: str) -> str:
    """What of a request is so large, with its limit."""
    if path == f"{API}/events":
        return f"payload: the limit is {MAX_EVENT} bytes; "
    return f"payload: the limit is {MAX_VALUE} bytes; " if _most(path) == MAX_VALUE_BODY else ""


def _too_large(path: str) -> TooLarge:
    return TooLarge(
        f"{_field(path)}the request is larger than {_most(path)} bytes: keep the data in a file or a store of your "
        "own and pass its name"
    )
