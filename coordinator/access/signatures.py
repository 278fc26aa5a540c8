"""Signatures of webhooks: whether a delivery is from whoever has the secret, and is meant now.

`standard`  Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature `v1,BASE64 …` (or Svix's svix-…)
            over `id.timestamp.body`; the secret is `whsec_` and base64
`github`    X-Hub-Signature-256: `sha256=HEX` over the body
`stripe`    Stripe-Signature: `t=…,v1=HEX,…` over `t.body`
`slack`     X-Slack-Signature: `v0=HEX` over `v0:TIME:body`, the time in X-Slack-Request-Timestamp
`zoom`      the same in x-zm-signature and x-zm-request-timestamp
`x`         X-Twitter-Webhooks-Signature: `sha256=BASE64` over the body

All are HMAC-SHA256 over the body as it came, compared in constant time; of several signatures one has to fit. A
signed time may be five minutes off. Where no scheme is declared, the header that is there says which it is; so that
nobody passes what was signed under one scheme off as another's, what is signed without a time must then be JSON, or
the form that GitHub sends it in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from coordinator.foundation.limits import SIGNATURE_TOLERANCE

SCHEMES = ("standard", "github", "stripe", "slack", "zoom", "x")

#: The headers that carry a signature, in the order they are looked for, and the scheme they mean.
_CARRIERS = (
    ("webhook-signature", "standard"),
    ("svix-signature", "standard"),
    ("stripe-signature", "stripe"),
    ("x-hub-signature-256", "github"),
    ("x-slack-signature", "slack"),
    ("x-zm-signature", "zoom"),
    ("x-twitter-webhooks-signature", "x"),
)
#: Where the time stands of those that sign in Slack's way.
_TIMES = {"slack": "x-slack-request-timestamp", "zoom": "x-zm-request-timestamp"}
SIGNATURE_HEADERS = frozenset({name for name, _ in _CARRIERS} | {"x-hub-signature"})
_SECONDS = re.compile(r"[0-9]{1,11}")
_LONGEST_ID = 512
#: Bytes of the shortest key that anything is believed by. `whsec_` alone would be none at all.
SHORTEST_KEY = 8


class BadSignature(Exception):
    """The delivery is not to be believed; the message says why, and nothing of the secret."""


def _check_key(key: bytes) -> None:
    if len(key) < SHORTEST_KEY:
        raise BadSignature(f"the secret of the webhook is shorter than {SHORTEST_KEY} bytes: set a longer one")


class Verified(NamedTuple):
    """`scheme`: which one it fits (None: unsigned). `sender_id`: what its sender calls it, where it does."""

    scheme: str | None
    sender_id: str | None


def verify(scheme: str | None, secret: str, headers: Mapping[str, str], body: bytes, now: float) -> Verified:
    """Checks a delivery; `headers` in lower case, `now` in seconds since the epoch. Raises BadSignature."""
    _check_key(secret.strip().encode())
    carrier, found = _carrier(scheme, headers)
    sender_id: str | None
    if found == "standard":
        sender_id = _standard(carrier.partition("-")[0], secret, headers, body, now)
    elif found == "stripe":
        _stripe(secret, headers[carrier], body, now)
        sender_id = _text(_member(body, "id"))
    elif found in _TIMES:
        _slack(secret, headers[carrier], headers.get(_TIMES[found], ""), body, now)
        sender_id = _text(_member(body, "event_id")) if found == "slack" else headers.get("x-zm-trackingid")
    elif found == "x":
        _x(secret, headers[carrier], body)
        # a challenge is signed with the same secret, and no challenge is an object
        if not isinstance(_parsed(body), (dict, list)):
            raise BadSignature("a body of this scheme is JSON")
        sender_id = None
    else:
        _github(secret, headers[carrier], body)
        if scheme is None and not (isinstance(_parsed(body), (dict, list)) or _in_a_form(body)):
            raise BadSignature("a body that is no JSON needs scheme='github' in the code of its webhook")
        sender_id = headers.get("x-github-delivery")
    return Verified(found, _bounded(sender_id))


def unsigned(headers: Mapping[str, str]) -> Verified:
    """What is known of a delivery whose webhook takes any."""
    names = ("webhook-id", "svix-id", "x-github-delivery", "idempotency-key")
    return Verified(None, _bounded(next((headers[name] for name in names if headers.get(name)), None)))


def _carrier(scheme: str | None, headers: Mapping[str, str]) -> tuple[str, str]:
    wanted = [(name, kind) for name, kind in _CARRIERS if scheme in (None, kind)]
    for name, kind in wanted:
        if name in headers:
            return name, kind
    raise BadSignature(f"no signature: there is none of the headers {', '.join(name for name, _ in wanted)}")


def _standard(prefix: str, secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    sender_id, at = headers.get(f"{prefix}-id", ""), headers.get(f"{prefix}-timestamp", "")
    if not sender_id:
        raise BadSignature(f"the header {prefix}-id is missing")
    _check_time(at, now)
    signed = b".".join((sender_id.encode("latin-1"), at.encode(), body))
    given = [part[3:] for part in headers[f"{prefix}-signature"].split(" ") if part.startswith("v1,")]
    for key in _standard_keys(secret):
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        if _any_equal(expected, given):
            return sender_id
    raise BadSignature("the signature does not fit the body and the secret")


def _standard_keys(secret: str) -> list[bytes]:
    """The key in `whsec_BASE64`; without that prefix a secret may be base64, or the key itself."""
    text = secret.removeprefix("whsec_")
    try:
        decoded = [base64.b64decode(text + "=" * (-len(text) % 4), validate=True)]
    except (binascii.Error, ValueError):
        decoded = []
    # base64 of a key that is too short is taken for the key itself, unless it says that it is base64
    if text != secret:
        for key in decoded or [text.encode()]:
            _check_key(key)
    decoded = [key for key in decoded if len(key) >= SHORTEST_KEY]
    return decoded if decoded and text != secret else [*decoded, secret.encode()]


def _stripe(secret: str, header: str, body: bytes, now: float) -> None:
    parts = [part.strip().partition("=") for part in header.split(",")]
    at = next((value for name, _, value in parts if name == "t"), "")
    _check_time(at, now)
    expected = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest().encode()
    if not _any_equal(expected, [value for name, _, value in parts if name == "v1"]):
        raise BadSignature("the signature does not fit the body and the secret")


def _github(secret: str, header: str, body: bytes) -> None:
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
    if not _any_equal(expected, [header.strip().removeprefix("sha256=")]):
        raise BadSignature("the signature does not fit the body and the secret")


def _slack(secret: str, header: str, at: str, body: bytes, now: float) -> None:
    _check_time(at, now)
    expected = hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest().encode()
    if not _any_equal(expected, [header.strip().removeprefix("v0=")]):
        raise BadSignature("the signature does not fit the body and the secret")


def _x(secret: str, header: str, body: bytes) -> None:
    expected = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256))
    if not _any_equal(expected, [header.strip().removeprefix("sha256=")]):
        raise BadSignature("the signature does not fit the body and the secret")


def _in_a_form(body: bytes) -> bool:
    """Whether it is JSON in the one field of a form, as GitHub sends it unless it is told otherwise."""
    return body.startswith(b"payload=%7B") or body.startswith(b"payload=%5B")


def _any_equal(expected: bytes, given: list[str]) -> bool:
    fits = False
    for signature in given[:16]:
        fits |= hmac.compare_digest(expected, signature.strip().encode("latin-1", "replace"))
    return fits


def _check_time(at: str, now: float) -> None:
    if not _SECONDS.fullmatch(at):
        raise BadSignature("the signature has no time in seconds")
    off = now - int(at)
    if abs(off) > SIGNATURE_TOLERANCE:
        side = "old" if off > 0 else "ahead"
        raise BadSignature(f"the signature is {abs(off):.0f} s {side}: {SIGNATURE_TOLERANCE:.0f} s are allowed")


def _bounded(sender_id: str | None) -> str | None:
    if sender_id is None or not sender_id.strip():
        return None
    if len(sender_id) <= _LONGEST_ID and sender_id.isprintable():
        return sender_id
    return "sha256:" + hashlib.sha256(sender_id.encode("utf-8", "surrogatepass")).hexdigest()


def _member(body: bytes, name: str) -> Any:
    parsed = _parsed(body)
    return parsed.get(name) if isinstance(parsed, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
