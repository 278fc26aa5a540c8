"""Text of tasks on a page: shown as what it is, doing nothing, and in linear time."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from coordinator.dashboard.rendering import environment
from coordinator.dashboard.text import brief, coloured, put_out, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 漢, 🫖", "plain, é, 漢, 🫖"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x00\x07\x1b[2J\x7f", "␀␇␛[2J␡"),
        ("\u202eevil\u202c", "‹U+202E›evil‹U+202C›"),
        ("a\u200bb\ufeffc\u2066d", "a‹U+200B›b‹U+FEFF›c‹U+2066›d"),
        ("\x85\u2028", "‹U+0085›‹U+2028›"),
        ("\ud800", "‹U+D800›"),
        ("\U000e0041", "‹U+E0041›"),
    ],
)
def test_what_is_hidden_or_commands_is_seen(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_expression_of_a_template_is_made_visible_and_escaped() -> None:
    template = environment().from_string("<p title='{{ a }}'>{{ b }}{{ c }}{{ d }}</p>")
    made = template.render(a="'><script>", b="\u202e<b>", c=None, d=Markup("<i>ours</i>"))
    assert made == "<p title='&#39;&gt;&lt;script&gt;'>‹U+202E›&lt;b&gt;<i>ours</i></p>"
    assert put_out(7) == "7"


def test_colours_are_classes_and_other_sequences_are_seen() -> None:
    assert coloured("a \x1b[1;31mred\x1b[0m b") == 'a <span class="a-bold a-red">red</span> b'
    assert coloured("\x1b[42m\x1b[97mx") == '<span class="a-on-green a-white">x</span>'
    assert coloured("\x1b[38;5;200mx\x1b[39my\x1b[48;2;1;2;3mz") == "xyz"
    assert coloured("\x1b[1mx\x1b[22my") == '<span class="a-bold">x</span>y'
    assert coloured("\x1b[2J\x1b]0;title\x07") == "␛[2J␛]0;title␇"
    assert coloured("\x1b[31m<script>") == '<span class="a-red">&lt;script&gt;</span>'
    assert coloured("\x1b[999;;m" + "\x1b[" + "1;" * 200 + "mx").endswith("mx")


def test_text_of_nothing_but_beginnings_of_sequences_is_seen_whole() -> None:
    made = coloured("\x1b[" * 2000 + "\x1b[1;" * 2000 + "\x1b[31m" * 2000)
    assert made == "␛[" * 2000 + "␛[1;" * 2000


def test_brief() -> None:
    assert brief("one\ntwo") == "one"
    assert brief("x" * 200, 10) == "xxxxxxxxx…"
    assert brief(12) == "12"
