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
