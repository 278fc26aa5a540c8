"""`Webhook`: an address at which requests from outside make runs of a task."""

from __future__ import annotations

import re
from typing import Any

from samovar.declare.challenges import SCHEMES as CHALLENGE_SCHEMES
from samovar.declare.challenges import Challenge
from samovar.errors import OptionError

SCHEMES = ("standard", "github", "stripe", "slack", "zoom", "x")

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MISSING: Any = object()


class Webhook:
    """`POST /hooks/{project}/{path}` makes a run: `Webhook("stripe", secret="STRIPE_WEBHOOK_SECRET")`.

    `secret`: the name of the secret that signs (`samovar secrets set`), or None for a webhook that takes anything
    from anybody; it has to be said. `scheme`: how it is signed, "standard" (Standard Webhooks), "github" (also
    Meta's), "stripe", "slack", "zoom" or "x"; default: what the request's headers say. `challenge`: for a sender
    that first asks, its name ("slack", "zoom", …) or a `Challenge`. Raises OptionError.
    """

    __slots__ = ("challenge", "path", "scheme", "secret")

    def __init__(
        self,
        path: str,
        secret: str | None = _MISSING,
        scheme: str | None = None,
        challenge: str | Challenge | None = None,
    ) -> None:
        if not (isinstance(path, str) and _PATH.fullmatch(path) and len(path) <= 200):
            raise OptionError(
                f"Webhook(path={path!r:.100}): give letters, digits, '_', '.', '-' and single '/', 200 at most, "
                'such as "stripe"'
            )
        if secret is _MISSING:
            raise OptionError(
                f"Webhook({path!r}): give secret= the name of the secret that signs, or secret=None to take "
                "anything from anybody"
            )
        if secret is not None and not (isinstance(secret, str) and _SECRET.fullmatch(secret)):
            raise OptionError(
                f"Webhook(secret={secret!r:.100}): give the name of a secret, such as an environment variable has "
                '("STRIPE_WEBHOOK_SECRET"), and set it with `samovar secrets set`'
            )
        if scheme is not None and scheme not in SCHEMES:
            raise OptionError(f"Webhook(scheme={scheme!r}): give one of {', '.join(map(repr, SCHEMES))}, or None")
        if scheme is not None and secret is None:
            raise OptionError(
                f"Webhook(scheme={scheme!r}) without a secret checks nothing: give secret=, or no scheme"
            )
        if challenge is not None and not isinstance(challenge, (str, Challenge)):
            raise OptionError(
                f"Webhook(challenge={challenge!r:.100}): give a sender's name, or a samovar.Challenge"
            )
        self.path = path
        self.secret = secret
        self.challenge = Challenge(challenge) if isinstance(challenge, str) else challenge
        if self.challenge is not None and secret is not None:
            scheme = scheme or CHALLENGE_SCHEMES.get(self.challenge.name)
        self.scheme = scheme
        if self.challenge is not None:
            self._check_oracle(self.challenge.describe(secret))

    def __repr__(self) -> str:
        challenge = "" if self.challenge is None else f", challenge={self.challenge!r}"
        return f"Webhook({self.path!r}, secret={self.secret!r}, scheme={self.scheme!r}{challenge})"

    def describe(self) -> dict[str, Any]:
        """The webhook as it stands in the index."""
        challenge = None if self.challenge is None else self.challenge.describe(self.secret)
        return {"path": self.path, "secret": self.secret, "scheme": self.scheme, "challenge": challenge}

    def _check_oracle(self, challenge: dict[str, Any]) -> None:
        """A secret that signs whatever anybody asks for proves nothing about a delivery."""
        same = self.secret is not None and challenge.get("hmac") == self.secret
        # one that stands in a body is signed itself; what "x" signs is JSON, and no challenge is
        if same and self.scheme != "x" and "field" not in challenge:
            raise OptionError(
                f"Webhook({self.path!r}): its challenge signs with {self.secret!r}, which signs deliveries too: "
                "whoever asks could have a delivery signed. Give Challenge(hmac=...) a secret of its own"
            )
