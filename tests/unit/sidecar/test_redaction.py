"""Secrets in text: found as they are and as programs write them, also where only their beginning is there."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samovar.harness.logs import cut
from samovar.wire import MAX_LOG_MESSAGE

from sidecar.redaction import MASK, NOTHING, SHORTEST, Redactor, redactor

SECRET = 'sk_live_"Zü/+7\\x'
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASCB\n-----END PRIVATE KEY-----\n"

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
values = st.text(st.characters(exclude_categories=("Cs",)), min_size=SHORTEST, max_size=60).filter(
    lambda text: len(text.strip()) >= SHORTEST and not text.strip().startswith("-----")
)


@given(values, texts, texts)
def test_no_way_of_writing_it_is_left(value: str, before: str, after: str) -> None:
    redact = Redactor([value]).text
    for write in (
        str,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: urlencode({"key": text}),
        repr,
        lambda text: text.encode().hex(),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    ):
        assert MASK in redact(before + write(value) + after), write
    assert value not in redact(before + value + after)


@given(values, st.binary(max_size=20), st.binary(max_size=20))
def test_it_is_found_inside_of_what_was_encoded_as_a_whole(value: str, before: bytes, after: bytes) -> None:
    data = value.encode()
    if len(data) < SHORTEST + 2:
        return
    redact = Redactor([value]).text
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redact(encode(before + data + after).decode())
        assert MASK in shown
        # of the secret's own bytes the letters at either end have at most four each
        rest = shown.replace(MASK, "")
        assert len(rest) <= len(encode(before)) + len(encode(after)) + 8


@given(values, st.integers(4, 60))
def test_the_beginning_of_one_at_the_end_of_what_is_not_whole(value: str, length: int) -> None:
    begun = value[:length]
    if len(begun) < 4 or begun == value:
        return
    redact = Redactor([value]).text
    assert redact(f"token: {begun}", whole=False).endswith(MASK)
    assert not redact(f"token: {begun}", whole=False).endswith(begun)


def test_a_line_that_was_cut_in_the_middle_of_one_ends_before_it() -> None:
    line = cut("x" * (MAX_LOG_MESSAGE - 48 - len(SECRET) // 2) + SECRET + "y" * 100)
    assert SECRET[:6] in line
    shown = Redactor([SECRET]).text(line)
    assert SECRET[:4] not in shown
    assert "more bytes were cut" in shown


def test_lines_of_a_secret_are_found_one_by_one_and_its_frame_is_none() -> None:
    redact = Redactor([PEM]).text
    for line in PEM.splitlines():
        assert redact(line) == (line if line.startswith("-----") else MASK)
    assert redact(json.dumps({"key": PEM})) == '{"key": "***"}'


def test_neighbours_overlaps_and_several_secrets() -> None:
    redact = Redactor(["abcdefgh", "efghijkl", "abcdefghijkl"]).text
    assert redact("abcdefghijkl") == MASK
    assert redact("abcdefghabcdefgh") == MASK + MASK
    assert redact("1 abcdefgh 2 efghijkl 3") == f"1 {MASK} 2 {MASK} 3"
    assert redact("nothing here") == "nothing here"


def test_what_is_short_is_not_looked_for() -> None:
    assert Redactor(["true", ""]).text("true") == "true"
    assert Redactor(["true"]).text("tr", whole=False) == "tr"


def test_a_tree_has_its_texts_and_names_redacted_and_keeps_its_numbers() -> None:
    tree = {"a": [1, f"key={SECRET}", None], SECRET: {"b": 1.5}}
    assert Redactor([SECRET]).tree(tree) == {"a": [1, f"key={MASK}", None], MASK: {"b": 1.5}}
    deep: object = SECRET
    for _ in range(5000):
        deep = [deep]
    assert SECRET not in str(Redactor([SECRET]).tree(deep))
    assert NOTHING.tree(tree) is tree


def test_the_runs_of_one_task_share_one() -> None:
    assert redactor((SECRET,)) is redactor((SECRET,))


@pytest.mark.parametrize("value", ["a" * 65536, "ab" * 32768], ids=["one letter", "two"])
def test_a_secret_that_repeats_itself_costs_no_more_than_others(value: str) -> None:
    redact = Redactor([value]).text
    line = "a" * 32768 if value[1] == "a" else "ab" * 16384
    assert redact(line, whole=False) == MASK if len(line) <= 8192 else MASK in redact(line, whole=False)
