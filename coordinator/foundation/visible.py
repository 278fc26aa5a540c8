"""Text that tasks wrote, for people to look at: its control characters written out (docs/explanation/text.md).

The same as the command line does on a terminal (samovar/cli/text.py; a test compares the two).
"""

from __future__ import annotations

import unicodedata

#: Characters of formatting that words are spelled and emoji joined with: the joiners and the soft hyphen.
_SPELLING = "\u200c\u200d\u00ad"
#: Control characters, surrogates, what breaks lines, and all that is there and not seen: marks that turn the
#: direction of text, spaces of no width, tags.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LAYOUT = "\t\n"
_SHORT = {"\r": "\\r", "\b": "\\b", "\a": "\\a", "\v": "\\v", "\f": "\\f"}


def visible(text: str) -> str:
    """`text` with its control characters as `\\x1b`, `\\u202e`; tabs, newlines and all letters stay."""
    if text.isprintable():
        return text
    return "".join(_written(character) if acts(character) else character for character in text)


def acts(character: str) -> bool:
    """Whether a terminal or a browser does with `character` anything else than showing it."""
    return character not in _LAYOUT and unicodedata.category(character) in _HIDDEN and character not in _SPELLING


def _written(character: str) -> str:
    code = ord(character)
    short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return _SHORT.get(character) or (short if code < 0x10000 else f"\\U{code:08x}")
