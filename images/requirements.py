"""A project's dependencies, read from a requirements file, pyproject.toml or uv.lock, ready for a builder."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from images.errors import ConfigError

#: The image brings the SDK itself, of the version that the harness in it belongs to.
SDK_NAME = "samovar"

_URL_OR_FILE = re.compile(r"(?:[a-z0-9+.-]+://|file:|\.{0,2}/)|.*\.(?:whl|zip|tar\.gz)$", re.IGNORECASE)


@dataclass(frozen=True)
class Requirements:
    """Dependencies to install.

    `files` are what the builder needs, by name, among them `requirements.txt` unless `lock` is true: then
    `uv.lock` and `pyproject.toml` are in it and the requirements are exported inside the builder. `source` is
    the file of the project that they were read from, for messages.
    """

    source: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    lock: bool = False
    #: Where each requirement stands, by its canonical name. Not in the key: a comment more is no other image.
    places: dict[str, str] = field(default_factory=dict)
    #: Lines left out, for the build log.
    left_out: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.files

    def key(self) -> list[str | bytes]:
        """What the name of the dependencies' image depends on."""
        parts: list[str | bytes] = ["lock" if self.lock else "file"]
        for name in sorted(self.files):
            parts += [name, self.files[name]]
        return parts

    def place_of(self, name: str) -> str | None:
        """Where in the project the requirement `name` stands, as `file:line`, or None."""
        return self.places.get(canonicalize_name(name))


def read_requirements(root: Path, named: str | None) -> Requirements:
    """The dependencies of the project in `root`; `named` is `requirements` of samovar.toml.

    Raises ConfigError naming the file and line of what cannot be installed.
    """
    if named is None:
        return (
            _requirements_file(root, "requirements.txt")
            if (root / "requirements.txt").is_file()
            else Requirements()
        )
    path = root / named
    if not path.is_file():
        raise ConfigError(
            f"samovar.toml names {named!r} for its requirements, and the project has no such file",
            fields={
                "project.requirements": f"{named!r} is not there (is it ignored by .gitignore or .samovarignore?)"
            },
        )
    if path.name == "uv.lock":
        return _lock(path, named)
    if path.suffix == ".toml":
        return _pyproject(path, named)
    return _requirements_file(root, named)


def _requirements_file(root: Path, named: str) -> Requirements:
    lines: list[str] = []
    constraints: list[str] = []
    wheels: dict[str, bytes] = {}
    left_out: list[str] = []
    places: dict[str, str] = {}
    problems: dict[str, str] = {}

    def read(file: Path, seen: tuple[Path, ...], target: list[str]) -> None:
        shown = file.relative_to(root.resolve()).as_posix()
        for number, line in _logical_lines(file):
            place = f"{shown}:{number}"
            if match := re.match(r"(-r|--requirement|-c|--constraint)[ =]\s*(\S+)$", line):
                other = (file.parent / match[2]).resolve()
                if not other.is_relative_to(root.resolve()) or not other.is_file():
                    problems[place] = f"{match[2]!r} is not a file in the project"
                elif other in seen:
                    problems[place] = f"{match[2]!r} includes itself"
                else:
                    read(other, (*seen, other), constraints if match[1] in {"-c", "--constraint"} else target)
            elif re.match(r"(-e|--editable)\b", line):
                problems[place] = "an editable requirement: the project's own code is in the image, leave it out"
            elif line.startswith("-"):
                target.append(line)
            elif _name(line) == SDK_NAME:
                left_out.append(f"{place}: {line}")
            elif _URL_OR_FILE.match(line.split(" ")[0]) and "://" not in line:
                wheel = (file.parent / line.split(" ")[0].removeprefix("file:")).resolve()
                if not wheel.is_relative_to(root.resolve()):
                    problems[place] = f"{line!r} is a path out of the project"
                elif not wheel.is_file():
                    problems[place] = f"{line!r} is not a file in the project; of a directory, build a wheel first"
                else:
                    wheels[f"wheels/{wheel.name}"] = wheel.read_bytes()
                    target.append(" ".join([f"./wheels/{wheel.name}", *line.split(" ")[1:]]))
            elif problem := _invalid(line):
                problems[place] = problem
            else:
                target.append(line)
                places[_name(line) or line] = place

    first = (root / named).resolve()
    if not first.is_relative_to(root.resolve()):
        raise ConfigError(f"{named!r} leads out of the project")
    read(first, (first,), lines)
    if problems:
        raise ConfigError(f"{named} holds what cannot be installed", code="invalid_requirements", fields=problems)
    if not any(not line.startswith("-") for line in lines):
        return Requirements(named, left_out=left_out)
    files = {"requirements.txt": _joined(lines), **wheels}
    if constraints:
        files["constraints.txt"] = _joined(constraints)
    return Requirements(named, files, places=places, left_out=left_out)


def _pyproject(path: Path, named: str) -> Requirements:
    project = _toml(path, named).get("project")
    if not isinstance(project, dict) or not isinstance(project.get("dependencies", []), list):
        raise ConfigError(
            f"{named} has no [project] table with dependencies; name a requirements file instead",
            code="invalid_requirements",
            fields={"project.requirements": f"{named!r} lists no dependencies in [project]"},
        )
    lines: list[str] = []
    left_out: list[str] = []
    places: dict[str, str] = {}
    problems: dict[str, str] = {}
    for number, item in enumerate(project.get("dependencies", [])):
        place = f"{named} dependencies[{number}]"
        if not isinstance(item, str):
            problems[place] = f"{item!r} is not text"
        elif problem := _invalid(item):
            problems[place] = problem
        elif _name(item) == SDK_NAME:
            left_out.append(f"{place}: {item}")
        else:
            lines.append(" ".join(item.split()))
            places[_name(item) or item] = place
    if problems:
        raise ConfigError(f"{named} holds what cannot be installed", code="invalid_requirements", fields=problems)
    files = {"requirements.txt": _joined(lines)} if lines else {}
    return Requirements(named, files, places=places, left_out=left_out)


def _lock(path: Path, named: str) -> Requirements:
    _toml(path, named)
    beside = path.parent / "pyproject.toml"
    if not beside.is_file():
        raise ConfigError(
            f"{named} needs the pyproject.toml it was made from beside it",
            code="invalid_requirements",
            fields={"project.requirements": f"no pyproject.toml beside {named!r}"},
        )
    _toml(beside, "pyproject.toml")
    return Requirements(named, {"uv.lock": path.read_bytes(), "pyproject.toml": beside.read_bytes()}, lock=True)


def _toml(path: Path, named: str) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named} is not valid TOML: {error}", code="invalid_requirements") from None


def _logical_lines(file: Path) -> list[tuple[int, str]]:
    """Lines with continuations joined, comments and needless blanks gone, each with its first line's number."""
    found: list[tuple[int, str]] = []
    held, start = "", 0
    text = file.read_bytes().decode("utf-8-sig", "replace")
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw if held else re.sub(r"^\s*#.*", "", raw)
        start = start if held else number
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        whole = " ".join(re.sub(r"(^|\s)#.*$", "", held + line).split())
        held = ""
        if whole:
            found.append((start, whole))
    if whole := " ".join(held.split()):
        found.append((start, whole))
    return found


def _name(line: str) -> str | None:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return canonicalize_name(match[0]) if match and not _URL_OR_FILE.match(line.split(" ")[0]) else None


def _invalid(line: str) -> str | None:
    if _URL_OR_FILE.match(line.split(" ")[0]):
        return None
    try:
        Requirement(re.split(r"\s--", line)[0])
    except InvalidRequirement as error:
        return f"{line!r} is not a requirement: {str(error).splitlines()[0]}"
    return None


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
