"""Which images a project may be built on: names with their registry, held against the operator's list.

A name means what it says wherever it is asked: the registry, the repository and the tag or digest are made out
here, and the engine is only ever given the whole of it, so that no short name is an id, or another registry's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from images.errors import BaseError

#: Python's official images, and the one that is made here from Debian packages.
USUAL_BASES = ("python", "samovar/base:bookworm")
LONGEST = 400

_HUB = "docker\x2eio"
_HUB_TOO = ("index.docker\x2eio", "registry-1.docker\x2eio", "registry.hub.docker\x2ecom")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?(?::[0-9]{1,5})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"(?:sha256:)?[0-9a-fA-F]{12,64}")


@dataclass(frozen=True)
class Reference:
    """The name of an image, whole. A digest goes before a tag, as it does for the engine."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """As the engine is asked for it; never to be taken for an id."""
        ending = f"@{self.digest}" if self.digest else f":{self.tag or 'latest'}"
        return f"{self.registry}/{self.repository}{ending}"


def reference(name: str) -> Reference:
    """The image that `name` means. Raises ValueError saying what an image is named like."""
    if len(name) > LONGEST:
        raise ValueError(f"{name[:40]!r}… is longer than the {LONGEST} characters of an image's name")
    if _ID.fullmatch(name):
        raise ValueError(f'{name!r} is an id; name an image by its repository, as in "python:3.12-slim"')
    rest, at, digest = name.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{name!r} has no digest after its '@': write @sha256: and 64 lower-case hex digits")
    first, slash, others = rest.partition("/")
    registry = _HUB
    # as the engine tells a host from the first part of a repository
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        registry, rest = first.lower(), others
        if not _HOST.fullmatch(registry):
            raise ValueError(f"{name!r} begins with {first!r}, which is no registry's host")
        if registry in _HUB_TOO:
            registry = _HUB
    repository, colon, tag = rest.partition(":")
    if not _REPOSITORY.fullmatch(repository) or (colon and not _TAG.fullmatch(tag)):
        raise ValueError(
            f'{name!r} is no name of an image: give a repository in lower case, and a tag, as in "python:3.12-slim"'
        )
    if registry == _HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag if colon else None, digest or None)


@dataclass(frozen=True)
class Allowed:
    """One line of the operator's list: `*` stands for any letters of a tag or of the end of a repository."""

    registry: str
    repository: str
    tag: str
    digest: str | None

    def holds(self, asked: Reference) -> bool:
        if asked.registry != self.registry or not fnmatchcase(asked.repository, self.repository):
            return False
        if self.digest is not None:
            return asked.digest == self.digest
        # with a digest the engine asks for no tag, so a tag beside it proves nothing
        return self.tag == "*" or (asked.digest is None and fnmatchcase(asked.tag or "latest", self.tag))


def read_line(line: str) -> Allowed:
    """`line` of the list, read. Raises ValueError saying what may stand there."""
    before, _, digest = line.partition("@")
    head, _, last = before.rpartition("/")
    if "*" in head or "*" in digest:
        raise ValueError(f"{line!r}: '*' may stand in the last part of a repository, and in a tag")
    made = reference(line.replace("*", "0"))
    repository, colon, tag = last.partition(":")
    parent = made.repository.rpartition("/")[0]
    return Allowed(
        made.registry, f"{parent}/{repository}" if parent else repository, tag if colon else "*", made.digest
    )


def listed(asked: Reference, bases: Sequence[str]) -> bool:
    """Whether a line of the list allows it. Never what a build made, however the list is written."""
    ours = asked.registry == _HUB and asked.repository.startswith("samovar/")
    built = ours and asked.repository != "samovar/base"
    return not built and any(read_line(line).holds(asked) for line in bases)


def allowed_base(name: str, bases: Sequence[str]) -> Reference:
    """The reference of `name`, where one of `bases` allows it. Raises BaseError, which says nothing of the host."""
    try:
        asked = reference(name)
    except ValueError as error:
        raise BaseError(f"the base image cannot be used: {error}", fields={"project.base": str(error)}) from None
    if not listed(asked, bases):
        text = f"{name!r} is not among the bases of this host's policy: {', '.join(bases) or 'none'}"
        raise BaseError(
            f"the base image {text}. Take one of those, or ask the operator to name it in policy.toml, "
            "[images] bases",
            code="base_not_allowed",
            fields={"project.base": text},
        )
    return asked
