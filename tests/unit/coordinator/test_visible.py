"""What is written out for people: the same by the coordinator as by the command line."""

from __future__ import annotations

import sys

from samovar.cli import text

from coordinator.foundation import visible


def test_every_character_is_shown_as_the_command_line_shows_it() -> None:
    everything = [chr(code) for code in range(sys.maxunicode + 1)]
    assert [c for c in everything if visible.acts(c) != text.acts(c)] == []
    acting = "".join(filter(visible.acts, everything))
    assert visible.visible(acting) == text.visible(acting)
    assert not any(map(visible.acts, visible.visible(acting)))
