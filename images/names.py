"""Images are named by what is in them: the same inputs give the same name, and a build may be left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Kind = Literal["base", "apt", "dependencies", "libraries", "deployment"]

#: Raised when the way an image is put together changes, so that older ones are not taken for the same.
RECIPE = 2

#: Of a digest, in a name: 128 bits, so that nobody finds two sources that are called the same.
_DIGITS = 32

#: Labels on everything this part makes.
LABEL = "samovar"
LABEL_PROJECT = "samovar.project"
LABEL_KIND = "samovar.kind"


def digest(parts: Iterable[str | bytes]) -> str:
    """The SHA-256 over `parts`, each with its length, so that no two lists of parts run together."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode())
        total.update(data)
    return total.hexdigest()


def image_name(project: str, kind: Kind, parts: Iterable[str | bytes]) -> str:
    """`samovar/<project>:<kind>-<the first 32 hex digits over parts>`."""
    return f"samovar/{project}:{kind}-{digest([str(RECIPE), kind, *parts])[:_DIGITS]}"


def labels(project: str, kind: str, extra: dict[str, str] | None = None) -> dict[str, str]:
    """The labels of an image or a container of a build."""
    return {**(extra or {}), LABEL: "1", LABEL_PROJECT: project, LABEL_KIND: kind}
