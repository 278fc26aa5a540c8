"""Completing the wait of a token: whoever has its URL may, once. No key: the id is what nobody can guess."""

from __future__ import annotations

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Connection, Row

from coordinator.access import keys
from coordinator.api.docs import refusals
from coordinator.api.reading import parse_in_turn
from coordinator.api.routers import open_to_all
from coordinator.context import Core
from coordinator.foundation.errors import Invalid
from coordinator.foundation.limits import MAX_TOKEN_VALUE
from coordinator.line import lanes
from coordinator.storage.values import Stored, encode
from coordinator.waits import waits
from coordinator.wire import Json, TokenCompleted

router = open_to_all("tokens")


@router.post(
    "/tokens/{token}",
    response_model=TokenCompleted,
    summary="Complete the wait of a token",
    responses=refusals(404, 409, 410, 413, 422),
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {}}}, "required": False}},
)
async def complete(token: str, request: Request, core: Core) -> TokenCompleted:
    """The body, any JSON, is what the waiting run gets; none is null. The first completion counts: later ones are
    answered 409, and those that come after the timeout or the run's end 410.
    """
    hashed = keys.hash_key(token)
    # before the body is read, let alone parsed
    await core.database.read(waits.check_token, hashed)
    encoded = encode(await _body(request), "body", MAX_TOKEN_VALUE)
    topics = await core.database.write(_complete, hashed, Stored(encoded.text, None, encoded.size))
    core.waking.notify(*topics)
    return TokenCompleted(completed=True)


def _complete(conn: Connection, now: float, token_hash: str, value: Stored) -> set[str]:
    queued: list[Row[tuple[object, ...]]] = []
    topics = waits.complete(conn, now, token_hash, value, queued)
    lanes.enter(conn, queued)
    return topics


async def _body(request: Request) -> Json:
    data = await request.body()  # the gate lets no more in than a value may have
    if not data.strip():
        return None
    try:
        value: Json = await parse_in_turn(data)
    except RequestValidationError as error:
        said = error.errors()[0].get("ctx", {}).get("error", "")
        raise Invalid(f"body: not JSON: {said}", code="invalid_request") from None
    return value
