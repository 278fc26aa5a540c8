"""The keys of a run's checkpoints and waits, and what is said where two things ask for one key."""

from __future__ import annotations

from samovar.errors import NonDeterministic, OptionError
from samovar.wire import MAX_KEY

#: What the waits of each kind are called in sentences.
WORDS = {
    "sleep": "a sleep",
    "until": "a wait until a time",
    "event": "a wait for the event",
    "token": "a wait for a token",
    "trigger": "a trigger of",
    "run": "a wait for a run of",
    "batch_trigger": "a batch of",
    "batch": "a wait for a batch of",
}


def check_key(key: object) -> None:
    """Raises OptionError for a key that can't be one."""
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
        shown = repr(key)
        raise OptionError(
            f"a checkpoint's key is text of 1 to {MAX_KEY} characters, not "
            f"{shown if len(shown) <= 80 else shown[:77] + '...'}"
        )
    if "\0" in key or any("\ud800" <= character <= "\udfff" for character in key):
        raise OptionError(f"a checkpoint's key is Unicode text without NUL, not {key!r}")


def describe(kind: str, name: str | None) -> str:
    """A wait in words: "a wait for the event 'paid'"."""
    return WORDS.get(kind, kind) + (f" {name!r}" if name is not None else "")


def mixed(key: str, stored: str, asked: str) -> NonDeterministic:
    return NonDeterministic(
        f"the run has {stored} under the key {key!r}, and asks for {asked} there now: a run has to come to the "
        "same checkpoints and waits in every attempt; name them with key=, and let nothing but their values decide "
        "its way"
    )
