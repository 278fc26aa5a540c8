"""Where webhooks come in: no key, but a signature; stored before it is answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import Request, Response

from coordinator.access import signatures
from coordinator.access.signatures import BadSignature, Verified
from coordinator.access.vault import BadMasterKey, Sealed
from coordinator.api.docs import refusals
from coordinator.api.routers import open_to_all
from coordinator.context import Coordinator, Core
from coordinator.foundation.errors import CoordinatorError, Forbidden, Refused, Unauthenticated, invalid_field
from coordinator.foundation.limits import INLINE
from coordinator.sources import bodies, challenges, deliveries, webhooks
from coordinator.sources.challenges import Asked, BadChallenge
from coordinator.sources.deliveries import Body, Planned, Received
from coordinator.sources.webhooks import Webhook
from coordinator.storage.values import Stored
from coordinator.wire import HookAnswer

router = open_to_all("webhooks")

log = structlog.get_logger()

#: Refused deliveries of one webhook are logged once in so many seconds.
_LOG_EVERY = 60.0


class NotReady(CoordinatorError):
    """The signature can't be checked now; the sender may come again."""

    status = 503
    code = "webhook_not_ready"


class NoChallenge(Refused):
    """A webhook takes POST, and this was no challenge."""

    status = 405
    code = "method_not_allowed"


@dataclass
class Refusal:
    """What one webhook has refused since this process began. Nothing of it is stored: anybody may send it."""

    count: int = 0
    at: float = 0.0
    reason: str = ""
    logged_at: float = field(default=float("-inf"))


@router.get(
    "/hooks/{project}/{path:path}",
    summary="Answer a webhook's sender that first asks",
    response_class=Response,
    responses={
        200: {"description": "The answer to the challenge, as its webhook declares it"},
        **refusals(404, 405),
    },
)
async def ask(project: str, path: str, request: Request, core: Core) -> Response:
    """Answered only where the webhook has a `challenge`, and what is asked is one. Nothing is kept of it."""
    webhook = await core.database.read(webhooks.find, project, path)
    answer = await _challenged(core, webhook, request, b"")
    if answer is None:
        raise NoChallenge(
            f"the webhook {path!r} of the project {project!r} takes POST"
            + ("; what was asked is not the challenge that it answers" if webhook.challenge else "")
        )
    return answer


@router.post(
    "/hooks/{project}/{path:path}",
    status_code=201,
    response_model=HookAnswer,
    summary="Deliver to a webhook",
    responses={
        200: {"model": HookAnswer, "description": "This delivery came before; its run"},
        202: {
            "model": HookAnswer,
            "description": "Kept without a run: its task is gone, or refuses the payload",
        },
        **{status: answer for status, answer in refusals(401, 404, 413, 429).items() if status != 403},
    },
)
async def receive(
    project: str, path: str, request: Request, core: Core, response: Response
) -> HookAnswer | Response:
    """Takes a delivery whose signature fits, and makes a run of its task: durable when it is answered.

    What its webhook declares as a challenge is answered, and makes no run.
    """
    webhook = await core.database.read(webhooks.find, project, path)
    body = await request.body()
    answer = await _challenged(core, webhook, request, body)
    if answer is not None:
        return answer
    try:
        verified = await asyncio.to_thread(_verify, core, webhook, request, body)
    except BadSignature as error:
        _count(core, webhook, str(error))
        raise Unauthenticated(f"the delivery is not to be believed: {error}", code="bad_signature") from None
    except NotReady as error:
        _count(core, webhook, str(error.__cause__ or f"the secret {webhook.secret} is not set"))
        raise
    headers = deliveries.kept_headers(request.headers.raw, signed=webhook.secret is not None)
    received = Received(webhook, verified, headers, body, _query(request))
    planned = await core.database.read(deliveries.prepare, received, core.payloads)
    if isinstance(planned, Planned):
        payload, kept = await _keep(core, planned, body)
        accepted = await core.database.write(deliveries.accept, received, planned, payload, kept)
        core.waking.notify(*accepted.topics)
        row, created = accepted.row, accepted.created
    else:
        row, created = planned, False
    if not created:
        response.status_code = 200
    elif row.status == "dead":
        response.status_code = 202
        log.warning("a delivery has no run", webhook=f"{project}/{path}", delivery=row.id, problem=row.problem)
    return HookAnswer(id=row.id, delivery_id=row.sender_id, status=row.status, run=row.run_id)


async def _challenged(core: Coordinator, webhook: Webhook, request: Request, body: bytes) -> Response | None:
    """The answer to a challenge; None where the request is none. Raises Forbidden, Unauthenticated, NotReady."""
    options = webhook.challenge
    asked = Asked(request.method, _query(request), dict(request.headers.items()), body)
    challenge = None if options is None else challenges.find(options, asked)
    if options is None or challenge is None:
        return None
    try:
        if options.hmac is not None and options.hmac == webhook.secret and webhook.scheme != "x":
            # what signs deliveries signs for nobody who can't
            await asyncio.to_thread(_verify, core, webhook, request, body)
        opened = {name: _open(core, name, sealed) for name, sealed in webhook.others.items()}
        answer = challenges.answer(options, asked, challenge, opened)
    except BadSignature as error:
        _count(core, webhook, str(error))
        raise Unauthenticated(f"the challenge is not to be believed: {error}", code="bad_signature") from None
    except BadChallenge as error:
        _count(core, webhook, str(error))
        raise Forbidden(f"the challenge is not answered: {error}", code="bad_challenge") from None
    except NotReady as error:
        _count(core, webhook, str(error.__cause__ or "a secret that its challenge takes is not set"))
        raise
    # what is echoed is anybody's: no browser may take it for a page
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(answer.content, media_type=answer.media_type, headers=headers)


def _query(request: Request) -> dict[str, Any]:
    try:
        return bodies.query(request.scope["query_string"])
    except ValueError:
        raise invalid_field("query", f"more than {bodies.MOST_FIELDS} parameters") from None


def _open(core: Coordinator, name: str, sealed: tuple[str, Sealed] | None) -> str:
    # what is wrong here is for the log: the sender is anybody
    missing = NotReady("this webhook cannot check signatures now; try again later")
    if sealed is None:
        raise missing
    try:
        return core.vault.open(sealed[0], name, sealed[1])
    except BadMasterKey as error:
        raise missing from error


def _verify(core: Coordinator, webhook: Webhook, request: Request, body: bytes) -> Verified:
    headers = dict(request.headers.items())
    if webhook.secret is None:
        return signatures.unsigned(headers)
    secret = _open(core, webhook.secret, webhook.sealed)
    return signatures.verify(webhook.scheme, secret, headers, body, webhook.at)


async def _keep(core: Coordinator, planned: Planned, body: bytes) -> tuple[Stored, Body]:
    """Large ones go to the blob store, before the transaction that refers to them."""
    payload = Stored()
    if planned.plan is not None and planned.plan.payload is not None:
        payload = await core.values.put(planned.plan.payload)
    if len(body) <= INLINE:
        return payload, Body(body, None)
    return payload, Body(None, await core.values.keep(body))


def _count(core: Coordinator, webhook: Webhook, reason: str) -> None:
    refusal = core.refusals.setdefault((webhook.project, webhook.path), Refusal())
    refusal.count, refusal.at, refusal.reason = refusal.count + 1, webhook.at, reason
    if webhook.at - refusal.logged_at >= _LOG_EVERY:
        refusal.logged_at = webhook.at
        name = f"{webhook.project}/{webhook.path}"
        log.warning("a delivery was refused", webhook=name, reason=reason, refused=refusal.count)
