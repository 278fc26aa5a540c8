"""Challenges: senders that ask before they send, to know that whoever gave them the address holds it.

Where the question stands and what is answered is configuration (`ChallengeOptions`), so that a sender nobody has
heard of yet can be set up; the SDK has the usual ones by name. A challenge makes no delivery and no run.

A challenge is signed only if it looks like one, a word without structure: what asks is anybody, and must not get a
signature of a delivery of its own making.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from coordinator.access.signatures import SHORTEST_KEY
from coordinator.tasks.index import ChallengeOptions

_LONGEST = 4096
#: What may be signed: no braces, colons or quotes, so neither JSON nor `v0:TIME:body`.
_WORD = re.compile(r"[A-Za-z0-9+/=_.~-]{1,512}")


class BadChallenge(Exception):
    """The sender is not to be answered; the message says why, and nothing of a secret."""


class Asked(NamedTuple):
    """A request that may be a challenge; `headers` by names in lower case."""

    method: str
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    content: str
    media_type: str


def find(options: ChallengeOptions, asked: Asked) -> str | None:
    """The challenge in the request; None where it is none."""
    if options.method not in (None, asked.method):
        return None
    body = _object(asked.body) if options.field is not None else {}
    for place, wanted in options.when.items():
        if _at(options, asked, body, place) != wanted:
            return None
    if options.header is not None:
        found: Any = asked.headers.get(options.header.lower())
    else:
        found = _at(options, asked, body, options.query or options.field or "")
    return found if isinstance(found, str) and 0 < len(found) <= _LONGEST else None


def answer(options: ChallengeOptions, asked: Asked, challenge: str, secrets: Mapping[str, str]) -> Answer:
    """What is answered; `secrets` has those that the options name. Raises BadChallenge."""
    if options.verify is not None and options.verify_in is not None:
        body = _object(asked.body) if options.field is not None else {}
        given = asked.headers.get(options.verify_in.lower()) if options.header is not None else None
        given = given or _at(options, asked, body, options.verify_in)
        expected = secrets[options.verify].encode()
        _check_key(options.verify, expected)
        if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "replace"), expected):
            raise BadChallenge(f"{options.verify_in} is not the secret {options.verify}")
    signed = "" if options.hmac is None else _sign(options, challenge, secrets[options.hmac])
    if options.answer == "text":
        return Answer(signed or challenge, "text/plain; charset=utf-8")
    values = {"challenge": challenge, "hmac": signed}
    return Answer(json.dumps({name: values[what] for name, what in options.answer.items()}), "application/json")


def names(options: ChallengeOptions) -> list[str]:
    """The secrets that an answer takes."""
    return [name for name in (options.verify, options.hmac) if name is not None]


def _check_key(name: str, key: bytes) -> None:
    if len(key.strip()) < SHORTEST_KEY:
        raise BadChallenge(f"the secret {name} is shorter than {SHORTEST_KEY} bytes: set a longer one")


def _sign(options: ChallengeOptions, challenge: str, secret: str) -> str:
    if not _WORD.fullmatch(challenge):
        raise BadChallenge("what is to be signed is more than a word")
    _check_key(options.hmac or "", secret.encode())
    digest = hmac.digest(secret.encode(), challenge.encode(), hashlib.sha256)
    return options.prefix + (digest.hex() if options.encoding == "hex" else base64.b64encode(digest).decode())


def _at(options: ChallengeOptions, asked: Asked, body: Mapping[str, Any], place: str) -> Any:
    """What stands at `place`: in the body where the challenge stands there, else among the address's parameters."""
    if options.field is None:
        return asked.query.get(place)
    found: Any = body
    for name in place.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
