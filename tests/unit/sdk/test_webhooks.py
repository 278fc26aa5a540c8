"""Webhook: what it takes, and what it says to what it doesn't."""

from __future__ import annotations

from typing import Any

import pytest
from samovar import OptionError, Webhook, task
from samovar.declare.webhooks import SCHEMES

from coordinator.access import signatures


def test_a_webhook_is_described() -> None:
    assert Webhook("stripe/live", secret="STRIPE", scheme="stripe").describe() == {
        "path": "stripe/live",
        "secret": "STRIPE",
        "scheme": "stripe",
        "challenge": None,
    }
    assert Webhook("a", None).describe() == {"path": "a", "secret": None, "scheme": None, "challenge": None}
    assert repr(Webhook("a", "B")) == "Webhook('a', secret='B', scheme=None)"


def test_sdk_and_coordinator_have_the_same_schemes() -> None:
    assert SCHEMES == signatures.SCHEMES


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"path": ""}, "Webhook(path='')"),
        ({"path": "/stripe"}, 'such as "stripe"'),
        ({"path": "a//b"}, "single '/'"),
        ({"path": 3}, "Webhook(path=3)"),
        ({"secret": "whsec_a-b/c"}, "give the name of a secret"),
        ({"secret": ""}, "Webhook(secret='')"),
        ({"scheme": "paypal"}, "give one of 'standard', 'github', 'stripe', 'slack', 'zoom', 'x'"),
        ({"secret": None, "scheme": "stripe"}, "checks nothing"),
    ],
)
def test_what_is_wrong_is_said_with_its_value(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as error:
        Webhook(**{"path": "stripe", "secret": "STRIPE", **given})
    assert words in str(error.value)


def test_unsigned_has_to_be_said() -> None:
    with pytest.raises(OptionError, match=r"secret=None to take anything from anybody"):
        Webhook("stripe")


def test_a_task_takes_one() -> None:
    def pay() -> None: ...

    made = task(webhook=Webhook("stripe", secret="STRIPE"))(pay)
    assert made.options["webhook"]["path"] == "stripe"
    with pytest.raises(OptionError, match="from samovar import Webhook"):
        task(webhook="stripe")(pay)  # type: ignore[arg-type]
