"""Webhook deliveries signed as their senders sign them: the headers of each scheme."""

from __future__ import annotations

import base64
import hashlib
import hmac


def standard(secret: str, body: bytes, at: float, id: str = "msg_1", prefix: str = "webhook") -> dict[str, str]:
    """Standard Webhooks; `prefix` "svix" for the older names."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{id}.{int(at)}.".encode() + body, hashlib.sha256)
    return {
        f"{prefix}-id": id,
        f"{prefix}-timestamp": str(int(at)),
        f"{prefix}-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def github(secret: str, body: bytes, id: str = "delivery-1") -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": id, "x-github-event": "push"}


def stripe(secret: str, body: bytes, at: float) -> dict[str, str]:
    """The delivery's id is the `id` in its body."""
    signed = hmac.new(secret.encode(), f"{int(at)}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={int(at)},v1={signed}"}


def slack(secret: str, body: bytes, at: float) -> dict[str, str]:
    return {"x-slack-request-timestamp": str(int(at)), "x-slack-signature": _v0(secret, body, at)}


def zoom(secret: str, body: bytes, at: float) -> dict[str, str]:
    return {"x-zm-request-timestamp": str(int(at)), "x-zm-signature": _v0(secret, body, at)}


def x(secret: str, body: bytes) -> dict[str, str]:
    signed = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()
    return {"x-twitter-webhooks-signature": f"sha256={signed}"}


def _v0(secret: str, body: bytes, at: float) -> str:
    return "v0=" + hmac.new(secret.encode(), f"v0:{int(at)}:".encode() + body, hashlib.sha256).hexdigest()
