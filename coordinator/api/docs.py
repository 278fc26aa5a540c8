"""How refusals appear in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from coordinator.wire import Problem


class ErrorAnswer(BaseModel):
    """The body of every refused request."""

    error: Problem


_MEANINGS = {
    401: "No key, or one that is not known",
    403: "The key has another role",
    404: "No such thing; `error.message` names near ones where there are any",
    405: "The address takes another method",
    409: "The state of things forbids it",
    410: "Its time is over",
    413: "Too large",
    422: "Wrong fields, each named in `error.fields`",
    429: "Beyond the queue's rate; Retry-After says when the next one may come",
    503: "No durable storage now; Retry-After says when to try again",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may refuse with these, besides 401, 403 and 503, which any may."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status]}
        for status in sorted({401, 403, 503, *statuses})
    }
