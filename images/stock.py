"""Packages for one build: fetched where there is a network and nothing runs, built where there is none.

A project's dependencies are programs: a source archive runs what is in it to be built, and to say what it needs. So
the two are taken apart. A builder with a network fetches wheels, in which nothing runs, and source archives as they
are; a builder without one builds and installs. What that misses it says, and it is fetched and begun again.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from images.dependencies import Plan
from images.errors import InstallError

T = TypeVar("T")

#: Packages that are fetched for what says in its build that it misses them.
_MOST_MISSED = 60
_MISSED = re.compile(r"No matching distribution found for ([^\n]+)")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}\.(?:whl|zip|tar\.gz|tgz|tar\.bz2|tar\.xz)")
_DIRECT = re.compile(
    r"(?P<name>[^@\s]+\s*@\s*)?(?P<url>(?:git\+|hg\+|svn\+|bzr\+)?[a-z][a-z0-9+.-]*://\S+)(?P<rest>.*)"
)
_INDEX = ("-i", "--index-url", "--extra-index-url", "--trusted-host", "--no-index", "--pre-index")


class Missed(Exception):
    """A builder without a network said that it has no package for `requirement`; `error` is what it comes to."""

    def __init__(self, requirement: str, error: InstallError) -> None:
        super().__init__(requirement)
        self.requirement, self.error = requirement, error


@dataclass
class Lines:
    """A requirements file taken apart: what is asked for with a network, and what is installed without one."""

    online: list[str] = field(default_factory=list)
    #: Lines, and for those that are fetched by their URL the number of it.
    offline: list[str | tuple[int, str, str]] = field(default_factory=list)
    direct: list[str] = field(default_factory=list)
    #: Packages that are to be built from their sources.
    sources: list[str] = field(default_factory=list)


@dataclass
class Stock:
    """The packages of one build, in directories of the host that its builders are lent."""

    root: Path
    #: What was asked for already, so that nothing is fetched in a circle.
    asked: set[str] = field(default_factory=set)
    #: What was asked for as a source archive.
    sourced: set[str] = field(default_factory=set)
    #: What was fetched because it is likely to be missed, as far as it was to be had.
    ahead: set[str] = field(default_factory=set)

    @property
    def house(self) -> Path:
        """Wheels and source archives, as they were fetched; the builders without a network only read it."""
        return self.root / "house"

    @property
    def built(self) -> Path:
        """Wheels that builders made of source archives."""
        return self.root / "built"

    def take_built(self, archive: tarfile.TarFile) -> None:
        """Keep the wheels in what was copied out of a builder."""
        for member in archive:
            name = member.name.rpartition("/")[2]
            content = archive.extractfile(member) if member.isreg() and _FILE.fullmatch(name) else None
            if content is not None and name.endswith(".whl"):
                with (self.built / name).open("wb") as file:
                    shutil.copyfileobj(content, file)

    def fetched(self, directory: str) -> str | None:
        """The one file that was fetched into `directory` of the house."""
        for path in sorted((self.house / directory).iterdir()):
            if path.is_file() and not path.is_symlink() and _FILE.fullmatch(path.name):
                return path.name
        return None


@contextlib.contextmanager
def stock(state: Path, give: Callable[[Path], None]) -> Iterator[Stock]:
    """A stock below `state`, gone afterwards; `give` lets the builders' user write in a directory."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="stock-", dir=state))
    try:
        made = Stock(root)
        root.chmod(0o711)
        for directory in (made.house, made.built):
            directory.mkdir()
        give(made.house)
        made.built.chmod(0o755)
        yield made
    finally:
        remove_tree(root)


def remove_tree(root: Path) -> None:
    """Remove `root` with what is in it, as far as this user may; a builder may have nested that without end."""
    # not shutil's, which calls itself for each directory in a directory
    subprocess.run(["rm", "-rf", "--", str(root)], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def supplied(stock: Stock, get: Callable[[str, InstallError], None], work: Callable[[], T]) -> T:
    """`work()`, again each time that it raises Missed, with what it missed fetched by `get`."""
    for _ in range(_MOST_MISSED):
        try:
            return work()
        except Missed as missed:
            if missed.requirement in stock.asked:
                raise missed.error from None
            stock.asked.add(missed.requirement)
            get(missed.requirement, missed.error)
    raise InstallError(f"building needs more than {_MOST_MISSED} packages that nothing names; list them", code=None)


def missed(output: list[str]) -> str | None:
    """The requirement that pip found no package for, name and versions alone, if that is what it says."""
    found = _MISSED.findall("\n".join(output))
    return named(found[-1].split(" (from ")[0].strip()) if found else None


def named(line: str) -> str | None:
    """The requirement `line` as name, extras and versions alone; None where it is a URL, or none."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    if requirement.url is not None or len(line) > 500:
        return None
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}"


def taken_apart(text: str, first: int) -> Lines:
    """A requirements file of a plan; its URLs are numbered from `first`."""
    lines = Lines()
    for line in text.splitlines():
        if not line.strip():
            continue
        word, _, value = line.partition(" ")
        if word.startswith("-"):
            option, equals, inner = word.partition("=")
            value = inner if equals else value
            if option in _INDEX or (option in {"-f", "--find-links"} and "://" in value):
                lines.online.append(line)
            elif option in {"--no-binary", "--only-binary"}:
                if option == "--no-binary":
                    names = [name.strip() for name in value.split(",")]
                    lines.sources += [name for name in names if re.fullmatch(r"[A-Za-z0-9._-]+", name)]
                    lines.offline.append(line)
            else:
                lines.online.append(line)
                lines.offline.append(line)
        elif line.startswith("./"):
            if word.lower().endswith(".whl"):
                lines.online.append(line)
            lines.offline.append(line)
        elif (direct := _DIRECT.fullmatch(line)) and (direct["name"] or "://" in word):
            fragment = direct["url"].partition("#")[2]
            parts = [part for part in fragment.split("&") if part.startswith(("subdirectory=", "egg="))]
            ending = f"#{'&'.join(parts)}" if parts else ""
            lines.offline.append((first + len(lines.direct), direct["name"] or "", f"{ending}{direct['rest']}"))
            lines.direct.append(line)
        else:
            lines.online.append(line)
            lines.offline.append(line)
    return lines


def without(lines: list[str], names: set[str]) -> list[str]:
    """`lines` but for the requirements of `names`."""
    return [line for line in lines if line.startswith(("-", ".")) or name_of_line(line) not in names]


def name_of_line(line: str) -> str:
    """The package that a requirement names."""
    return canonicalize_name(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])


def plan_lines(plan: Plan) -> dict[str, Lines]:
    """The requirements files of a plan's steps, taken apart."""
    found: dict[str, Lines] = {}
    count = 0
    for step in plan.steps:
        if step.file not in found:
            found[step.file] = taken_apart(plan.files[step.file].decode("utf-8", "replace"), count)
            count += len(found[step.file].direct)
    return found
