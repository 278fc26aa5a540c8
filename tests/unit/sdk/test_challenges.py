"""Challenge: what it takes, and what it says to what it doesn't."""

from __future__ import annotations

from typing import Any

import pytest
from samovar import Challenge, OptionError, Webhook
from samovar.declare.challenges import PRESETS


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_known_sender_is_set_up_by_its_name(name: str) -> None:
    verify = {"verify": "TOKEN"} if name in ("meta", "strava") else {}
    made = Webhook("a", secret="OWN", challenge=Challenge(name, **verify)).describe()
    assert made["challenge"]["name"] == name
    assert made["scheme"] == {"meta": "github", "slack": "slack", "zoom": "zoom", "x": "x"}.get(name)
    assert made["challenge"].get("hmac") == ("OWN" if name in ("x", "zoom") else None)


def test_a_name_is_short_for_it() -> None:
    assert (
        Webhook("a", "B", challenge="slack").describe()
        == Webhook("a", "B", challenge=Challenge("slack")).describe()
    )
    # what is said beside the name counts
    assert Challenge("x", hmac="OTHER").describe(None)["hmac"] == "OTHER"
    assert "Challenge('slack'" in repr(Webhook("a", "B", challenge="slack"))


@pytest.mark.parametrize(
    ("arguments", "given", "words"),
    [
        (("paypal",), {}, "known are 'meta'"),
        ((), {}, "got none of them"),
        ((), {"query": "a", "field": "b"}, "got query and field"),
        (("meta",), {}, "needs verify="),
        ((), {"query": "a", "verify": "TOKEN"}, "give verify_in="),
        ((), {"query": "a", "verify": "no name", "verify_in": "t"}, "give the name of a secret"),
        ((), {"query": "a", "hmac": "no name"}, "give the name of a secret"),
        ((), {"query": "a", "method": "PUT"}, "give 'GET', 'POST' or None"),
        ((), {"query": "a", "encoding": "utf-8"}, "give 'hex' or 'base64'"),
        ((), {"query": "a", "answer": "html"}, "give 'text', or an object"),
        ((), {"query": "a", "answer": {"a": "token"}}, "give 'text', or an object"),
        ((), {"query": "a", "answer": {"a": "hmac"}}, "needs hmac="),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as error:
        Challenge(*arguments, **given)
    assert words in str(error.value)


def test_a_secret_that_signs_deliveries_signs_for_nobody_who_asks() -> None:
    with pytest.raises(OptionError, match="a secret of its own"):
        Webhook("a", "OWN", challenge=Challenge(query="c", hmac="OWN"))
    with pytest.raises(OptionError, match="has none"):
        Webhook("a", None, challenge="zoom")
    with pytest.raises(OptionError, match="give a sender's name"):
        Webhook("a", None, challenge=3)  # type: ignore[arg-type]
    Webhook("a", "OWN", challenge=Challenge(query="c", hmac="OTHER"))
