"""Challenges: those of known senders as their documents show them, and what is not answered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from samovar import Challenge

from coordinator.sources import challenges
from coordinator.sources.challenges import Answer, Asked, BadChallenge
from coordinator.tasks.index import ChallengeOptions

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


def options(challenge: Challenge, secret: str | None = "OWN") -> ChallengeOptions:
    """As they come out of the index: what the SDK writes, the coordinator reads."""
    return ChallengeOptions.model_validate(json.loads(json.dumps(challenge.describe(secret))))


def ask(
    sender: Challenge | str, /, method: str = "GET", body: Any = None, headers: Any = None, **query: Any
) -> Answer | None:
    made = options(Challenge(sender) if isinstance(sender, str) else sender)
    query = {name.replace("__", "."): item for name, item in query.items()}
    asked = Asked(method, query, headers or {}, b"" if body is None else json.dumps(body).encode())
    found = challenges.find(made, asked)
    return (
        None
        if found is None
        else challenges.answer(made, asked, found, {"OWN": "long key", "TOKEN": "open sesame"})
    )


def signed(text: str) -> bytes:
    return hmac.digest(b"long key", text.encode(), hashlib.sha256)


def test_meta_is_answered_when_it_shows_the_token() -> None:
    meta = Challenge("meta", verify="TOKEN")
    query = {"hub__mode": "subscribe", "hub__challenge": "1158201444", "hub__verify_token": "open sesame"}
    assert ask(meta, **query) == Answer("1158201444", TEXT)
    for wrong in ("open", "", ["open sesame"], None):
        with pytest.raises(BadChallenge, match=r"hub\.verify_token is not the secret TOKEN"):
            ask(meta, **{**query, "hub__verify_token": wrong})
    assert ask(meta, **{**query, "hub__mode": "unsubscribe"}) is None
    assert ask(meta, "POST", **query) is None


def test_strava_websub_dropbox_okta_and_microsoft() -> None:
    query = {"hub__mode": "subscribe", "hub__challenge": "15f7d1a91c1f40f8a748fd134752feb3"}
    strava = ask(Challenge("strava", verify="TOKEN"), **query, hub__verify_token="open sesame")
    assert strava == Answer('{"hub.challenge": "15f7d1a91c1f40f8a748fd134752feb3"}', JSON)
    assert ask("websub", hub__mode="unsubscribe", hub__challenge="abc", hub__topic="t") == Answer("abc", TEXT)
    assert ask("dropbox", challenge="abc123") == Answer("abc123", TEXT)
    okta = ask("okta", headers={"x-okta-verification-challenge": "my challenge"})
    assert okta == Answer('{"verification": "my challenge"}', JSON)
    for method in ("GET", "POST"):
        token = "Validation: Testing <client> application"
        assert ask("microsoft", method, validationToken=token) == Answer(token, TEXT)


def test_x_gets_its_token_signed() -> None:
    answer = ask("x", crc_token="challenge_string")
    expected = "sha256=" + base64.b64encode(signed("challenge_string")).decode()
    assert answer == Answer(json.dumps({"response_token": expected}), JSON)


def test_slack_and_zoom_ask_in_the_body() -> None:
    slack = {"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": "3eZbrw1aBm2rZgRNFdxV", "type": "url_verification"}
    assert ask("slack", "POST", slack) == Answer('{"challenge": "3eZbrw1aBm2rZgRNFdxV"}', JSON)
    assert ask("slack", "POST", {**slack, "type": "event_callback"}) is None
    assert ask("slack", "GET", slack) is None
    zoom = {"payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}, "event": "endpoint.url_validation", "event_ts": 1}
    expected = {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": signed("qgg8vlvZRS6UYooatFL8Aw").hex()}
    assert ask("zoom", "POST", zoom) == Answer(json.dumps(expected), JSON)


def test_any_other_sender_is_described() -> None:
    own = Challenge(
        field="data.nonce", when={"kind": "ping"}, answer={"nonce": "challenge", "by": "hmac"}, hmac="OWN"
    )
    assert ask(own, "POST", {"kind": "ping", "data": {"nonce": "n1"}}) == Answer(
        json.dumps({"nonce": "n1", "by": signed("n1").hex()}), JSON
    )
    assert ask(Challenge(header="X-Hook-Secret"), "POST", headers={"x-hook-secret": "s"}) == Answer("s", TEXT)
    token = Challenge(header="X-Ask", verify="TOKEN", verify_in="X-Token")
    assert ask(token, headers={"x-ask": "a", "x-token": "open sesame"}) == Answer("a", TEXT)
    with pytest.raises(BadChallenge):
        ask(token, headers={"x-ask": "a"})


@pytest.mark.parametrize(
    "body", [None, [], "text", {"payload": "text"}, {"payload": {"plainToken": 3}}, {"payload": {"plainToken": ""}}]
)
def test_what_is_no_challenge_is_none(body: Any) -> None:
    whole = {**body, "event": "endpoint.url_validation"} if isinstance(body, dict) else body
    assert ask("zoom", "POST", whole) is None
    assert ask("dropbox", challenge=["a", "b"]) is None
    assert ask("dropbox", challenge="a" * 5000) is None


@pytest.mark.parametrize("token", ['{"user": 1}', "v0:1700000000:{}", "two words", "a" * 600, "\u00e9"])
def test_nothing_is_signed_that_could_be_a_delivery(token: str) -> None:
    with pytest.raises(BadChallenge, match="more than a word"):
        ask("x", crc_token=token)
