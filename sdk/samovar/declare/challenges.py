"""`Challenge`: how a sender that asks before it sends is answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from samovar.errors import OptionError

#: The secret that signs the webhook's deliveries.
OWN = "the webhook's own"

_GET, _POST = {"method": "GET"}, {"method": "POST"}

#: The senders that are known by name, each as the keywords of a Challenge.
PRESETS: dict[str, dict[str, Any]] = {
    # Meta's (Facebook, Instagram, WhatsApp): hub.verify_token is what was typed in there
    "meta": {**_GET, "query": "hub.challenge", "when": {"hub.mode": "subscribe"}, "verify_in": "hub.verify_token"},
    "websub": {**_GET, "query": "hub.challenge"},
    "strava": {
        **_GET,
        "query": "hub.challenge",
        "when": {"hub.mode": "subscribe"},
        "verify_in": "hub.verify_token",
        "answer": {"hub.challenge": "challenge"},
    },
    "dropbox": {**_GET, "query": "challenge"},
    "x": {
        **_GET,
        "query": "crc_token",
        "answer": {"response_token": "hmac"},
        "hmac": OWN,
        "encoding": "base64",
        "prefix": "sha256=",
    },
    "okta": {**_GET, "header": "x-okta-verification-challenge", "answer": {"verification": "challenge"}},
    # asked with POST by some of its services and with GET by others
    "microsoft": {"query": "validationToken"},
    "slack": {
        **_POST,
        "field": "challenge",
        "when": {"type": "url_verification"},
        "answer": {"challenge": "challenge"},
    },
    "zoom": {
        **_POST,
        "field": "payload.plainToken",
        "when": {"event": "endpoint.url_validation"},
        "answer": {"plainToken": "challenge", "encryptedToken": "hmac"},
        "hmac": OWN,
    },
}

#: How those sign who sign in one way only.
SCHEMES = {"meta": "github", "x": "x", "slack": "slack", "zoom": "zoom"}

_NEEDS_TOKEN = ("meta", "strava")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MISSING: Any = object()


class Challenge:
    """Where the challenge of a sender stands, and what it is answered.

    By name: `Challenge("meta", verify="META_VERIFY_TOKEN")`; "meta", "websub", "strava", "dropbox", "x", "okta",
    "microsoft", "slack", "zoom". Or in full, and beside a name instead of what it says:

    `query`, `header` or `field`: the one place where it stands, a parameter of the address, a header, or a dotted
    path in the body's JSON. `when`: what else has to stand there, such as {"type": "url_verification"}. `method`:
    "GET" or "POST", else any. `answer`: "text", or a JSON object by name of "challenge" and "hmac", such as
    {"token": "challenge"}. `verify`: the name of the secret that the sender has to show at `verify_in`. `hmac`: the
    name of the secret that the challenge is signed with (HMAC-SHA256), in `encoding` "hex" or "base64", after
    `prefix`. Raises OptionError.
    """

    __slots__ = ("name", "options")

    def __init__(
        self,
        name: str | None = None,
        *,
        query: str | None = None,
        header: str | None = None,
        field: str | None = None,
        when: Mapping[str, str] | None = None,
        method: str | None = _MISSING,
        answer: str | Mapping[str, str] | None = None,
        verify: str | None = None,
        verify_in: str | None = None,
        hmac: str | None = None,
        encoding: str | None = None,
        prefix: str | None = None,
    ) -> None:
        if name is not None and name not in PRESETS:
            known = ", ".join(map(repr, PRESETS))
            raise OptionError(f"Challenge({name!r:.80}): unknown; known are {known}, or give the keywords")
        given: dict[str, Any] = {
            "query": query,
            "header": header,
            "field": field,
            "when": None if when is None else dict(when),
            "answer": answer if answer is None or isinstance(answer, str) else dict(answer),
            "verify": verify,
            "verify_in": verify_in,
            "hmac": hmac,
            "encoding": encoding,
            "prefix": prefix,
        }
        given = {word: value for word, value in given.items() if value is not None}
        if method is not _MISSING:
            given["method"] = method
        self.name = name or "own"
        self.options: dict[str, Any] = {**PRESETS.get(self.name, {}), **given}
        self._check()

    def __repr__(self) -> str:
        return f"Challenge({self.name!r}, {self.options!r})"

    def describe(self, secret: str | None) -> dict[str, Any]:
        """The challenge as it stands in the index, of a webhook that `secret` signs. Raises OptionError."""
        options = {"name": self.name, **self.options}
        if options.get("hmac") == OWN:
            if secret is None:
                raise OptionError(
                    f"Challenge({self.name!r}) signs with the secret of its webhook, and that has none: give hmac= "
                    "the name of a secret"
                )
            options["hmac"] = secret
        return options

    def _check(self) -> None:
        options = self.options
        places = [word for word in ("query", "header", "field") if word in options]
        if len(places) != 1:
            said = " and ".join(places) if places else "none of them"
            raise OptionError(f"Challenge: give one of query=, header= and field=, where it stands; got {said}")
        for word in ("verify", "hmac"):
            if word in options and options[word] != OWN and not _SECRET.fullmatch(str(options[word])):
                raise OptionError(f"Challenge({word}={options[word]!r:.80}): give the name of a secret")
        if self.name in _NEEDS_TOKEN and "verify" not in options:
            raise OptionError(
                f"Challenge({self.name!r}) needs verify= the name of the secret that holds the verify token that "
                "was typed in at the sender's"
            )
        if "verify" in options and "verify_in" not in options:
            raise OptionError("Challenge(verify=...): give verify_in= where the sender shows it")
        if "verify" not in options:
            options.pop("verify_in", None)
        if options.get("method") not in (None, "GET", "POST"):
            raise OptionError(f"Challenge(method={options['method']!r:.80}): give 'GET', 'POST' or None for any")
        if options.get("encoding", "hex") not in ("hex", "base64"):
            raise OptionError(f"Challenge(encoding={options['encoding']!r:.80}): give 'hex' or 'base64'")
        answer = options.get("answer", "text")
        if answer != "text" and not (
            isinstance(answer, dict) and answer and set(answer.values()) <= {"challenge", "hmac"}
        ):
            raise OptionError(
                f"Challenge(answer={answer!r:.80}): give 'text', or an object of 'challenge' and 'hmac' by name, "
                'such as {"token": "challenge"}'
            )
        if answer != "text" and "hmac" in answer.values() and "hmac" not in options:
            raise OptionError("Challenge(answer=...) with 'hmac' needs hmac= the name of the secret to sign with")
