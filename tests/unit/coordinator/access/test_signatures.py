"""Signatures: each scheme as its senders compute it, and everything that must not pass."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from coordinator.access.signatures import BadSignature, Verified, unsigned, verify
from coordinator.foundation.limits import SIGNATURE_TOLERANCE
from tests.signing import github, standard, stripe

NOW = 1_800_000_000.0
BODY = b'{"id": "evt_1", "type": "paid"}'
KEY = base64.b64encode(b"k" * 24).decode()
WHSEC = f"whsec_{KEY}"


def test_the_published_examples_fit() -> None:
    """Standard Webhooks' own test vector, and the one in GitHub's documentation."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert verify("standard", secret, headers, b'{"test": 2432232314}', 1614265330).scheme == "standard"
    hub = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    assert verify("github", "It's a Secret to Everybody", hub, b"Hello, World!", NOW).scheme == "github"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("headers", "secret", "verified"),
    [
        (standard(WHSEC, BODY, NOW, "msg_1"), WHSEC, Verified("standard", "msg_1")),
        (standard(WHSEC, BODY, NOW, "msg_1", prefix="svix"), WHSEC, Verified("standard", "msg_1")),
        (standard(KEY, BODY, NOW, "msg_1"), KEY, Verified("standard", "msg_1")),
        (github("plain secret", BODY, "d-1"), "plain secret", Verified("github", "d-1")),
        (stripe(WHSEC, BODY, NOW), WHSEC, Verified("stripe", "evt_1")),
    ],
)
def test_what_is_signed_well_passes(
    headers: dict[str, str], secret: str, verified: Verified, declared: bool
) -> None:
    assert verify(verified.scheme if declared else None, secret, headers, BODY, NOW) == verified
    for off in (-SIGNATURE_TOLERANCE, SIGNATURE_TOLERANCE):
        assert verify(None, secret, headers, BODY, NOW + off) == verified


def test_a_secret_that_is_no_base64_is_the_key_itself() -> None:
    secret = "not base64!"
    signed = base64.b64encode(hmac.digest(secret.encode(), b"m.%d." % NOW + BODY, hashlib.sha256)).decode()
    headers = {"webhook-id": "m", "webhook-timestamp": str(int(NOW)), "webhook-signature": f"v1,{signed}"}
    assert verify(None, secret, headers, BODY, NOW).sender_id == "m"


def test_one_of_several_signatures_has_to_fit() -> None:
    good, old = standard(WHSEC, BODY, NOW, "m"), standard("whsec_" + KEY[::-1], BODY, NOW, "m")
    both = {**good, "webhook-signature": f"v1a,xyz {old['webhook-signature']} {good['webhook-signature']}"}
    assert verify(None, WHSEC, both, BODY, NOW).sender_id == "m"
    one, other = stripe(WHSEC, BODY, NOW), stripe("other", BODY, NOW)
    v1 = other["stripe-signature"].partition(",")[2]
    several = {"stripe-signature": f"{one['stripe-signature']},{v1},v0=abc"}
    assert verify(None, WHSEC, several, BODY, NOW).sender_id == "evt_1"


@pytest.mark.parametrize("scheme", ["standard", "github", "stripe"])
@pytest.mark.parametrize("change", ["body", "secret", "signature", "empty", "other version"])
def test_what_is_forged_does_not_pass(scheme: str, change: str) -> None:
    made = {
        "standard": standard(WHSEC, BODY, NOW, "m"),
        "github": github(WHSEC, BODY),
        "stripe": stripe(WHSEC, BODY, NOW),
    }
    headers = dict(made[scheme])
    carrier = {"standard": "webhook-signature", "github": "x-hub-signature-256", "stripe": "stripe-signature"}[
        scheme
    ]
    body, secret = BODY, WHSEC
    if change == "body":
        body = BODY.replace(b"paid", b"void")
    elif change == "secret":
        secret = "whsec_" + base64.b64encode(b"x" * 24).decode()
    elif change == "signature":
        flipped = "0" if headers[carrier][-2] != "0" else "1"
        headers[carrier] = headers[carrier][:-2] + flipped + headers[carrier][-1]
    elif change == "empty":
        headers[carrier] = ""
    else:
        headers[carrier] = headers[carrier].replace("v1", "v2").replace("sha256=", "sha1=")
    with pytest.raises(BadSignature):
        verify(None, secret, headers, body, NOW)


@pytest.mark.parametrize("make", [standard, stripe])
@pytest.mark.parametrize(("off", "words"), [(301, "301 s old"), (-301, "301 s ahead")])
def test_a_time_that_is_off_does_not_pass(make: Any, off: float, words: str) -> None:
    with pytest.raises(BadSignature, match=words):
        verify(None, WHSEC, make(WHSEC, BODY, NOW), BODY, NOW + off)


@pytest.mark.parametrize("at", ["", "now", "1e9", "-1", "１８００００００００", "1800000000.5"])
def test_a_time_that_is_none_does_not_pass(at: str) -> None:
    headers = {**standard(WHSEC, BODY, NOW), "webhook-timestamp": at}
    with pytest.raises(BadSignature, match="no time in seconds"):
        verify(None, WHSEC, headers, BODY, NOW)


def test_the_id_is_signed_with_the_body() -> None:
    headers = standard(WHSEC, BODY, NOW, "msg_1")
    for other in ("msg_2", ""):
        with pytest.raises(BadSignature):
            verify(None, WHSEC, {**headers, "webhook-id": other}, BODY, NOW)


def test_a_declared_scheme_takes_no_other() -> None:
    with pytest.raises(BadSignature, match="none of the headers stripe-signature"):
        verify("stripe", WHSEC, github(WHSEC, BODY), BODY, NOW)
    with pytest.raises(BadSignature, match="no signature"):
        verify(None, WHSEC, {}, BODY, NOW)


def test_what_stripe_signed_does_not_pass_as_githubs() -> None:
    """Both sign with the same key: without the rule, `t.body` would be a body that GitHub signed, at any time."""
    signature = stripe(WHSEC, BODY, NOW)["stripe-signature"].rpartition("v1=")[2]
    body = b"%d." % NOW + BODY
    headers = {"x-hub-signature-256": f"sha256={signature}"}
    assert verify("github", WHSEC, headers, body, NOW)  # the signature itself would do
    with pytest.raises(BadSignature, match="no JSON"):
        verify(None, WHSEC, headers, body, NOW + 1e6)


@pytest.mark.parametrize("id", [None, "", " ", 7, {"a": 1}])
def test_a_stripe_body_without_a_usable_id_has_none(id: Any) -> None:
    body = json.dumps({"id": id}).encode()
    assert verify(None, WHSEC, stripe(WHSEC, body, NOW), body, NOW).sender_id is None


def test_an_id_that_a_database_would_not_hold_is_hashed() -> None:
    for id in ("x" * 513, "a\0b", "a\ud800"):
        body = json.dumps({"id": id}).encode()
        found = verify(None, WHSEC, stripe(WHSEC, body, NOW), body, NOW).sender_id
        assert found is not None
        assert (found[:7], len(found)) == ("sha256:", 71)


def test_an_unsigned_delivery_has_the_id_that_its_headers_say() -> None:
    assert unsigned({"x-github-delivery": "d", "idempotency-key": "k"}) == Verified(None, "d")
    assert unsigned({"idempotency-key": "k"}) == Verified(None, "k")
    assert unsigned({}) == Verified(None, None)
