"""What is found while a project's files are read: requirements, local libraries, and every line that is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from images.dependencies.target import Target
from images.dependencies.tree import Tree, join
from images.errors import ConfigError

#: The image brings the SDK itself, of the version that the harness in it belongs to.
SDK_NAME = "samovar"

_ARCHIVE = re.compile(r".*\.(?:whl|zip|tar\.gz|tgz|tar\.bz2|tar\.xz)$", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|file:", re.IGNORECASE)
_VCS = re.compile(r"(?:git|hg|svn|bzr)\+", re.IGNORECASE)
#: How hatch and pdm write a path relative to the project.
_ROOT = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*@\s*(?:\{root:uri\}|file:///?(?:\$\{PROJECT_ROOT\}|\{root\}))/?(\S+)$"
)
_MOST_STEPS = 100_000
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*(\S+)(.*)$")


@dataclass
class Library:
    """A directory of the source that is a Python project of its own; `.` is the deployed project itself."""

    where: str
    path: Path
    #: Where it is asked for, as `file:line`.
    place: str
    extras: set[str] = field(default_factory=set)
    #: False where a lock holds what it needs.
    expand: bool = True
    #: True where samovar.toml names its pyproject.toml for the requirements, and nothing asks for itself.
    declared: bool = False
    #: True where only `include` names it: then it need not be a package.
    included: bool = False


@dataclass
class Findings:
    """Collected while reading. `problems` go to the author all at once, by the place they stand in."""

    tree: Tree
    target: Target
    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    #: Files for the builder, by their name there.
    files: dict[str, bytes] = field(default_factory=dict)
    #: Directories for the builder, by their name there.
    trees: dict[str, Path] = field(default_factory=dict)
    libraries: dict[str, Library] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    #: Requirements files that were read, each as what it was: a second time would add nothing.
    files_read: set[tuple[str, bool]] = field(default_factory=set)
    #: Groups and extras of tables that were taken, each by its file and name.
    tables_taken: set[tuple[str, str]] = field(default_factory=set)
    _steps: int = 0

    def spend(self, steps: int = 1) -> None:
        """Count what reading costs: whoever hands over a maze gets an error, and not the host's time."""
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise ConfigError(
                "what the project needs is too intricate to be read; name a requirements file or a lock",
                code="invalid_requirements",
            )

    def requirement(self, line: str, place: str, directory: str, *, constraint: bool = False) -> None:
        """Take one requirement, as a line of pip; `directory` is where its relative paths begin."""
        self.spend()
        line = " ".join(line.split())
        if root := _ROOT.match(line):
            self.local(f"./{root[2]}", place, directory)
            return
        if named := _NAMED.match(line):
            if not _URL.match(named[2]) and not _VCS.match(named[2]):
                self.problems[place] = f"{line!r} is not a requirement: after @ comes a URL"
                return
            if named[2].lower().startswith("file:"):
                self._named_file(line, named, place, directory)
                return
        if self.is_path(line, directory):
            self.local(line, place, directory)
        elif _URL.match(line) or _VCS.match(line):
            self._url(line, place)
        elif problem := invalid(line):
            self.problems[place] = problem
        elif name_of(line) == SDK_NAME:
            self.left_out.append(f"{place}: {line}")
        else:
            if _VCS.search(line):
                self._needs_git(line, place)
            (self.constraints if constraint else self.lines).append(line)
            if not constraint:
                self.places[name_of(line) or line] = place

    def is_path(self, line: str, directory: str) -> bool:
        """Whether pip would take `line` for a path: by its look, or because it is there."""
        first = _split(line)[0]
        if _URL.match(first) or _VCS.match(first):
            return first.lower().startswith("file:")
        if re.match(r"\.{1,2}(?:[\\/\[]|$)|/|~|[A-Za-z]:[\\/]", first):
            return True
        return ("/" in first or bool(_ARCHIVE.match(first))) and not re.search(r"[<>=~!;@]", first)

    def local(self, line: str, place: str, directory: str, *, expand: bool = True) -> None:
        """Take a path of the source: an archive or a directory with a Python project in it."""
        first, rest = _split(line)
        if ";" in rest and not self.target.holds(rest.partition(";")[2].split(" --")[0].strip()):
            return
        extras: set[str] = set()
        if match := re.match(r"(.*?)\[([^\]]*)\]$", first):
            first = match[1]
            extras = {canonicalize_name(extra) for extra in match[2].split(",") if extra.strip()}
        if first.lower().startswith("file:"):
            first = unquote(urlsplit(first).path if first[5:7] == "//" else first[5:].split("#")[0])
        where = join(directory, first)
        path = self.tree.at(where)
        if first.startswith("~") or path is None:
            self.problems[place] = self.tree.absence(first if first.startswith(("/", "~")) else where)
        elif path.is_file():
            self.archive(path, rest, place)
        else:
            library = self.libraries.setdefault(where, Library(where, path, place, expand=expand))
            library.extras |= extras
            library.included = library.declared = False
            library.expand = library.expand and expand

    def archive(self, path: Path, rest: str, place: str) -> None:
        """Take a wheel or source archive of the source."""
        if not _ARCHIVE.match(path.name):
            self.problems[place] = f"{path.name!r} is neither a directory nor a wheel or source archive"
            return
        self.files[f"wheels/{path.name}"] = path.read_bytes()
        self.lines.append(f"./wheels/{path.name}{rest}")
        try:
            self.places[parse_wheel_filename(path.name)[0]] = place
        except InvalidWheelFilename:
            self.places[path.name] = place

    def _url(self, line: str, place: str) -> None:
        if _VCS.match(line):
            self._needs_git(line, place)
        if "${" in line:
            self.problems[place] = unset(line)
            return
        self.lines.append(line)
        self.places[line] = place

    def _needs_git(self, line: str, place: str) -> None:
        if re.search(r"(?:hg|svn|bzr)\+", line):
            self.notices.append(f"{place}: {line.split('+')[0]} has to be in the base image or in apt")
        elif re.search(r"\bgit\+ssh://", line):
            self.problems[place] = (
                f"{line!r}: a build holds no ssh key; use git+https, or deploy the library with include"
            )
        elif not self.target.has_git:
            self.problems[place] = f'{line!r} needs git, which the base image has not; add apt = ["git"]'

    def _named_file(self, line: str, named: re.Match[str], place: str, directory: str) -> None:
        path = unquote(urlsplit(named[2]).path)
        if self.tree.at(join(directory, path)) is not None:
            self.local(f"{named[2]}{named[3]}", place, directory)
            return
        self.problems[place] = (
            f"{line!r} is a path of the machine that wrote this file (pip freeze does that); write "
            f"{named[1]}==VERSION, or deploy the library with include and name it by its relative path"
        )

    def option(self, line: str, place: str, directory: str) -> None:
        """Take an option of a requirements file that says where packages come from, or how."""
        name, _, value = line.partition("=") if re.match(r"--[\w-]+=", line) else line.partition(" ")
        value = value.strip()
        if "${" in value:
            self.problems[place] = unset(line)
        elif name in {"-f", "--find-links"} and not re.match(r"https?://", value):
            where = join(directory, unquote(urlsplit(value).path) if value.startswith("file:") else value)
            path = self.tree.at(where)
            if path is None or not path.is_dir():
                self.problems[place] = self.tree.absence(value if value.startswith("/") else where)
                return
            label = self.directory(path)
            self.lines.append(f"--find-links ./{label}")
        elif name in _OPTIONS:
            self.lines.append(line)
        else:
            self.problems[place] = f"{name!r} is no option that a builder takes; take the line out"

    def directory(self, path: Path) -> str:
        """Hand the directory `path` of archives to the builder; gives its name there."""
        label = next((label for label, own in self.trees.items() if own == path), f"links/{len(self.trees)}")
        self.trees[label] = path
        return label


_OPTIONS = frozenset(
    {
        *("-i", "--index-url", "--pypi-url", "--extra-index-url", "--no-index", "-f", "--find-links"),
        *("--no-binary", "--only-binary", "--prefer-binary", "--pre", "--trusted-host", "--require-hashes"),
        *("--use-feature", "--no-build-isolation"),
    }
)


def name_of(line: str) -> str | None:
    """The canonical name that a requirement begins with."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return canonicalize_name(match[0]) if match and not _URL.match(line) else None


def invalid(line: str) -> str | None:
    """Why `line` is no requirement, or None."""
    if "${" in line:
        return unset(line)
    try:
        Requirement(re.split(r"\s--", line)[0])
    except InvalidRequirement as error:
        return f"{line!r} is not a requirement: {str(error).splitlines()[0]}"
    return None


def unset(line: str) -> str:
    return (
        f"{line!r} takes a variable from the environment, and a build has none; "
        "the operator sets indexes with passwords for builds, as PIP_INDEX_URL or in pip.conf"
    )


def _split(line: str) -> tuple[str, str]:
    match = re.match(r"(\S+)(.*)$", line)
    return (match[1], match[2]) if match else (line, "")
