"""What a lock says: one version of each package, where it comes from and the hashes it must have; as steps of pip.

pip knows no index of a single package, so packages of one index make a step of their own; and it wants hashes of
all or of none, so those without are apart as well. Every step leaves dependencies out: a lock names them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from images.dependencies.findings import SDK_NAME, Findings
from images.dependencies.tree import join

#: The index that a lock names when nothing was set; a build takes the operator's in its place.
_DEFAULT_INDEX = re.compile(r"https://(?:pypi\.org|pypi\.python\.org)/simple/?$")


@dataclass(frozen=True)
class Step:
    """One call of pip: the requirements in `file` of the builder's directory."""

    file: str
    no_deps: bool = False


@dataclass
class Pin:
    """One locked package. Of `url`, `path` and `index` at most one; without any it comes from the usual index."""

    name: str
    version: str | None
    #: Where it stands, as `file: package`.
    place: str
    hashes: list[str] = field(default_factory=list)
    #: `https://…`, or `git+https://…@commit`.
    url: str | None = None
    #: A directory or an archive, relative to the project.
    path: str | None = None
    index: str | None = None
    #: A directory of archives, relative to the project, in the index's place.
    links: str | None = None


def take_pins(found: Findings, pins: list[Pin]) -> list[Step]:
    """Collect `pins`; gives the steps that install them."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for pin in sorted(pins, key=lambda pin: (canonicalize_name(pin.name), pin.version or "")):
        name = canonicalize_name(pin.name)
        if name == SDK_NAME:
            found.left_out.append(f"{pin.place}: {pin.name}")
            continue
        head, line = "", _line(found, pin)
        if line is None:
            continue
        if pin.links is not None:
            path = found.tree.at(pin.links)
            if path is None:
                found.problems[pin.place] = found.tree.absence(pin.links)
                continue
            head = f"--find-links ./{found.directory(path)}"
        elif pin.index is not None and not _DEFAULT_INDEX.match(pin.index):
            # a hash says which file it must be, whoever offers one of the name; without, only its own index may
            head = f"{'--extra-index-url' if pin.hashes else '--index-url'} {pin.index}"
            if pin.index.startswith("http://"):
                if not pin.hashes:
                    found.problems[pin.place] = (
                        f"{pin.index} is not encrypted and the lock has no hash of {name!r}, so anybody on the way "
                        "could put another file in; use https, or a lock with hashes"
                    )
                    continue
                # pip would pass over it without a word that says so
                head += f"\n--trusted-host {urlsplit(pin.index).netloc.rpartition('@')[2]}"
        hashed = bool(pin.hashes) and not line.startswith("./")
        groups.setdefault((head, hashed), []).append(
            " ".join([line, *(f"--hash={text}" for text in pin.hashes)]) if hashed else line
        )
        found.places[name] = pin.place
    steps = []
    for number, ((head, _), lines) in enumerate(sorted(groups.items()), 1):
        file = f"locked-{number}.txt"
        found.files[file] = "".join(f"{line}\n" for line in [head, *lines] if line).encode()
        steps.append(Step(file, no_deps=True))
    return steps


def _line(found: Findings, pin: Pin) -> str | None:
    if pin.path is not None:
        before = len(found.lines)
        found.local(pin.path if pin.path.startswith((".", "/")) else f"./{pin.path}", pin.place, ".", expand=False)
        # an archive is a line; a directory is a library, which is installed after these
        return found.lines.pop() if len(found.lines) > before else None
    if pin.url is not None:
        before = len(found.lines)
        found.requirement(f"{pin.name} @ {pin.url}", pin.place, ".")
        return found.lines.pop() if len(found.lines) > before else None
    if pin.version is None:
        found.problems[pin.place] = f"{pin.name!r} has no version; write the lock anew"
        return None
    return f"{pin.name}=={pin.version}"


def locked_path(where: str, path: str) -> str:
    """`path` of a lock at `where`, relative to the project."""
    directory = where.rsplit("/", 1)[0] if "/" in where else "."
    return path if path.startswith("/") else join(directory, path)


def hash_texts(entries: list[object]) -> list[str]:
    """The hashes of a lock's files, each once: texts `sha256:…`, or tables with `hash`."""
    found: dict[str, None] = {}
    for entry in entries:
        text = entry.get("hash") if isinstance(entry, dict) else entry
        if isinstance(text, str) and ":" in text:
            found[text] = None
    return list(found)
