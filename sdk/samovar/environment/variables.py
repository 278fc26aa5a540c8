"""What modules read of the environment while they are imported: secrets are not there then.

A secret is only in the process of a run. A module that reads one when it is imported needs a process of its own,
which imports it when the secrets are there. While the tasks are read, placeholders stand for them where the import
fails without.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

#: Files that are looked through for the names of secrets, at most, and bytes of each.
_MOST_FILES = 5000
_LARGEST = 2 * 1024 * 1024


class Reads:
    """Variables that were asked for and not there; `all`: every variable was gone through."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.all = False

    def of(self, secrets: set[str]) -> list[str]:
        """Those of the secrets that were read too early, in words."""
        found = [
            f"the secret {name}, which a module reads when it is imported"
            for name in sorted(secrets & self.missing)
        ]
        if self.all and secrets and not found:
            found = ["all variables, which a module reads when it is imported, secrets among them"]
        return found


@contextmanager
def watching(placeholders: Container[str] = ()) -> Iterator[Reads]:
    """Notes what is read of `os.environ` meanwhile; `placeholders` only stand for what is not there."""
    reads = Reads()
    plain = type(os.environ)

    class Watched(plain):  # type: ignore[misc, valid-type]
        def __getitem__(self, key: str) -> str:
            if key in placeholders:
                reads.missing.add(key)
            try:
                found: str = super().__getitem__(key)
                return found
            except KeyError:
                if isinstance(key, str):
                    reads.missing.add(key)
                raise

        def __iter__(self) -> Iterator[str]:
            reads.all = True
            return iter(super().__iter__())

    os.environ.__class__ = Watched
    try:
        yield reads
    finally:
        os.environ.__class__ = plain


def secret_names(code: str, defaults: dict[str, Any]) -> set[str]:
    """The names of the secrets that tasks are given, in the project's files (not run) or in `defaults`."""
    import ast  # which every container would hold, where few need it

    found = set(defaults.get("secrets") or ())
    for number, path in enumerate(_files(code)):
        if number >= _MOST_FILES:
            break
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read(_LARGEST))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in ("secrets", "secret"):
                texts = (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
                found.update(text for text in texts if isinstance(text, str) and text.isidentifier())
    return found


def _files(code: str) -> Iterator[str]:
    for folder, folders, names in os.walk(code):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "node_modules"]
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))


def placeholder(name: str) -> str:
    """What stands for a secret while the tasks are read."""
    return f"placeholder-for-{name}"
