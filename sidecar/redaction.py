"""Secrets taken out of text: as they are, and as programs write them.

Best effort, against mistakes: code that means to give a secret away writes it in a way that nobody looks for.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

#: Stands for what was taken out.
MASK = "***"
#: Characters of the shortest secret that is looked for: what is shorter stands in too much other text.
SHORTEST = 6
#: Of a line of a secret that has several: its lines are looked for one by one, as logs have them.
_SHORTEST_LINE = 8
#: Characters at the end of a line that is not whole which may be the beginning of a secret.
_BEGINNING = 4
#: Of the end of such a line, so many are looked at.
_END = 8192
#: What the harness writes in the place of the rest of a line that is too long.
_CUT = re.compile(r" … \[\d+ more bytes were cut\]\Z")
_DEEPEST = 200


class Redactor:
    """Takes the secrets of one set out of text. Making one takes time with their size; it may be shared."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = sorted({form for value in values for form in _forms(value)})
        self._whole = _automaton(forms, MatchKind.LeftmostLongest)
        self._beginnings: dict[str, list[str]] = {}
        for form in forms:
            self._beginnings.setdefault(form[:_BEGINNING], []).append(form)
        self._starts = _automaton(sorted(self._beginnings), MatchKind.Standard)

    def text(self, text: str, *, whole: bool = True) -> str:
        """`text` without secrets. Not `whole`: what comes next is not here, and it may end in half of a secret."""
        spans = [(start, end) for _, start, end in self._whole.find_matches_as_indexes(text)]
        cut = _CUT.search(text)
        if cut is not None or not whole:
            end = cut.start() if cut is not None else len(text)
            begun = self._begun(text[max(0, end - _END) : end])
            if begun:
                spans = [span for span in spans if span[1] <= end - begun] + [(end - begun, end)]
        if not spans:
            return text
        parts, at = [], 0
        for start, end in spans:
            if start >= at:
                parts += [text[at:start], MASK]
            at = max(at, end)
        return "".join((*parts, text[at:]))

    def tree(self, value: Any, depth: int = 0) -> Any:
        """A JSON value with the secrets taken out of its texts and names."""
        if isinstance(value, str):
            return self.text(value)
        if depth > _DEEPEST:
            return MASK
        if isinstance(value, list):
            return [self.tree(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self.tree(item, depth + 1) for name, item in value.items()}
        return value

    def _begun(self, end: str) -> int:
        """How many characters at the end of `end` are the beginning of a form; 0: none."""
        for _, start, stop in self._starts.find_matches_as_indexes(end, overlapping=True):
            if any(form.startswith(end[start:]) for form in self._beginnings[end[start:stop]]):
                return len(end) - start
        return 0


class Nothing(Redactor):
    """For an attempt that has no secrets."""

    def __init__(self) -> None:
        """It looks for nothing."""

    def text(self, text: str, *, whole: bool = True) -> str:
        return text

    def tree(self, value: Any, depth: int = 0) -> Any:
        return value


NOTHING = Nothing()


@lru_cache(maxsize=32)
def redactor(values: tuple[str, ...]) -> Redactor:
    """The redactor of these secrets: of runs of one task, the same one."""
    return Redactor(values)


def _automaton(forms: list[str], kind: MatchKind) -> AhoCorasick:
    # the implementation that is small: forms are long, and few of their characters are ever met
    return AhoCorasick(forms, matchkind=kind, implementation=Implementation.ContiguousNFA)


def _forms(value: str) -> Iterator[str]:
    """What a secret may look like in text."""
    parts = {value, value.strip()}
    if "\n" in value.strip():
        lines = {line.strip() for line in value.splitlines()}
        # "-----BEGIN PRIVATE KEY-----" is in many texts, and no secret
        parts |= {line for line in lines if len(line) >= _SHORTEST_LINE and not line.startswith("-----")}
    for part in parts:
        if len(part) >= SHORTEST:
            yield from _written(part)


def _written(text: str) -> Iterator[str]:
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    for quoted in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
    data = text.encode()
    yield data.hex()
    yield data.hex().upper()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # where it stands in a longer text that was encoded as a whole, such as "user:password"
        for before in range(3):
            encoded = encode(bytes(before) + data).decode()
            inner = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
            if len(inner) >= SHORTEST:
                yield inner
