"""One control switched off in a copy of the tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A control that is off where `old` in `file` reads `new`, and the tests that have to notice."""

    name: str
    #: What is switched off, in words.
    off: str
    #: A path from the project's root.
    file: str
    #: A text that stands there once.
    old: str
    new: str
    #: pytest's names of files or tests.
    tests: tuple[str, ...]

    def put_into(self, tree: Path) -> None:
        """Writes the mutant into a copy of the tree. Raises ValueError where the text is not there once."""
        path = tree / self.file
        text = path.read_text("utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times in {self.file}")
        path.write_text(text.replace(self.old, self.new), "utf-8")
