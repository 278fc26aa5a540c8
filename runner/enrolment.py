"""A runner's own key: made here, kept here, and known to the coordinator by its SHA-256 alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from pathlib import Path

import structlog

from runner.coordinator_client import CoordinatorClient, Refusal
from runner.errors import CoordinatorAway, NotEnrolled
from runner.settings import OWN_KEY, Settings

log = structlog.get_logger()

_RETRY = 1.0
_DRAFT = "runner.key.new"


async def enrol(client: CoordinatorClient, settings: Settings, pause: float = _RETRY) -> None:
    """Lets `client` use the runner's own key, which the coordinator is asked for where there is none yet.

    Tries until the coordinator answers. Raises NotEnrolled where it will not take the token.
    """
    while True:
        try:
            if await _step(client, settings):
                return
        except CoordinatorAway as error:
            log.warning("not enrolled yet; trying again", problem=str(error))
        await asyncio.sleep(pause)


async def _step(client: CoordinatorClient, settings: Settings) -> bool:
    own, draft = settings.state / OWN_KEY, settings.state / _DRAFT
    refused: Refusal | None = None
    if own.is_file():
        key = own.read_text("utf-8").strip()
        client.use(key)
        answer = await client.enrol(_hash(key))
        if not isinstance(answer, Refusal) or answer.status == 404:
            return True
        # revoked, or of a coordinator that has begun anew
        refused = answer
    given, token = settings.bearer(), settings.enrolment_token()
    for bearer in filter(None, (token, given)):
        key = _made(draft)
        client.use(bearer)
        answer = await client.enrol(_hash(key))
        if isinstance(answer, Refusal):
            if answer.status == 404 and bearer == given:
                return True  # a coordinator of an earlier version
            refused = answer
            continue
        if answer.key is not None:
            draft.replace(own)
            client.use(key)
            log.info("enrolled", key=answer.key)
        else:
            draft.unlink()
        return True
    if refused is not None and refused.code == "runner_alive":
        raise CoordinatorAway(refused.message)  # the one before this may end yet
    message = "it has no key and no token; `samovar hosts token` makes one" if refused is None else refused.message
    raise NotEnrolled(f"the coordinator does not let this runner in: {message}")


def _made(draft: Path) -> str:
    """A new key, the same one until it is taken: an answer may be lost after the coordinator has stored it."""
    if not draft.is_file() or draft.stat().st_size == 0:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"rk_{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(descriptor)
    return draft.read_text("utf-8").strip()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
