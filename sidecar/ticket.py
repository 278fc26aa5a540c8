"""What tells process 1 of a container from everything else in it when it connects again."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path


class Ticket:
    """Given to whoever connects first, asked of everyone later. Kept in a file, so that a sidecar that starts
    anew asks for it too.
    """

    def __init__(self, path: Path) -> None:
        """`path` must not be in what a container has mounted."""
        self._path = path
        self._text: str | None = None
        with contextlib.suppress(FileNotFoundError):
            self._text = path.read_text("ascii")

    @property
    def given(self) -> bool:
        return self._text is not None

    def admits(self, shown: object) -> bool:
        """Whether somebody who shows this may come in."""
        if self._text is None:
            return True
        return isinstance(shown, str) and hmac.compare_digest(shown.encode("utf-8", "replace"), self._text.encode())

    def give(self) -> str:
        """The text to show from now on; on the disk before anybody has it."""
        if self._text is None:
            text = secrets.token_hex(16)
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            fresh = self._path.with_name(f"{self._path.name}.new")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            fresh.replace(self._path)
            self._text = text
        return self._text

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
