"""`Webhook`: an address at which requests from outside make runs of a task."""

from __future__ import annotations

import re
from typing import Any

from samovar.errors import OptionError

SCHEMES = ("standard", "github", "stripe")

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MISSING: Any = object()


class Webhook:
    """`POST /hooks/{project}/{path}` makes a run: `Webhook("stripe", secret="STRIPE_WEBHOOK_SECRET")`.

    `secret`: the name of the secret that signs (`samovar secrets set`), or None for a webhook that takes anything
    from anybody; it has to be said. `scheme`: how it is signed, "standard" (Standard Webhooks), "github" or
    "stripe"; default: what the request's headers say. Raises OptionError.
    """

    __slots__ = ("path", "scheme", "secret")

    def __init__(self, path: str, secret: str | None = _MISSING, scheme: str | None = None) -> None:
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
        self.path = path
        self.secret = secret
        self.scheme = scheme

    def __repr__(self) -> str:
        return f"Webhook({self.path!r}, secret={self.secret!r}, scheme={self.scheme!r})"

    def describe(self) -> dict[str, Any]:
        """The webhook as it stands in the index."""
        return {"path": self.path, "secret": self.secret, "scheme": self.scheme}
