"""What a builder is to do for a project's dependencies, made of the source alone, before anything is built."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from images.config import ProjectTable
from images.dependencies import importable, pyproject
from images.dependencies.findings import SDK_NAME, Findings, Library, name_of
from images.dependencies.other_locks import read_pdm_lock, read_pipfile_lock, read_pylock
from images.dependencies.pins import Pin, Step, take_pins
from images.dependencies.poetry_lock import read_poetry_lock
from images.dependencies.pyproject import UNKNOWN_VERSION, Answer
from images.dependencies.requirement_files import read_requirements_file
from images.dependencies.target import Target
from images.dependencies.tree import Tree, outside
from images.dependencies.uv_lock import read_uv_lock
from images.errors import ConfigError

__all__ = ["Answer", "Plan", "make_plan"]

_LOCKS: dict[str, Callable[[Findings, str, set[str], set[str]], list[Pin]]] = {
    "uv.lock": read_uv_lock,
    "poetry.lock": read_poetry_lock,
    "pdm.lock": read_pdm_lock,
    "Pipfile.lock": read_pipfile_lock,
    "pylock.toml": read_pylock,
}
_MOST_SHOWN = 50
#: Looked for in this order where samovar.toml names nothing.
_USUAL = ("requirements.txt", *_LOCKS)


@dataclass(frozen=True)
class Plan:
    """Dependencies to install, in the order of `steps`; the libraries of the source after them.

    `files` and `trees` are what the builder needs, by name. `source` is the file that it all was read from, for
    messages. `ask` are directories whose build backend has to say what they need: with its answers the plan is
    made anew.
    """

    source: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    trees: dict[str, Path] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    #: Directories that pip installs, without what they need.
    libraries: list[Library] = field(default_factory=list)
    ask: list[Library] = field(default_factory=list)
    #: Directories below the project's own in which imports are looked for as well.
    paths: list[str] = field(default_factory=list)
    #: Name and version of the project itself, so that `importlib.metadata` knows it.
    project: tuple[str, str] | None = None
    #: Whether the environment sees the packages of the base image and of apt.
    system: bool = False
    #: Where each requirement stands, by its canonical name. Not in the key: a comment more is no other image.
    places: dict[str, str] = field(default_factory=dict)
    #: Lines left out, for the build log.
    left_out: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.steps

    def key(self, fingerprint: Callable[[Path], list[bytes]]) -> list[str | bytes]:
        """What the name of the dependencies' image depends on."""
        parts: list[str | bytes] = ["system" if self.system else "own"]
        parts += [f"{step.file} {step.no_deps}" for step in self.steps]
        for name in sorted(self.files):
            parts += [name, self.files[name]]
        for name in sorted(self.trees):
            parts += [name, *fingerprint(self.trees[name])]
        return parts

    def place_of(self, name: str) -> str | None:
        """Where in the project the requirement `name` stands, as `file:line`, or None."""
        return self.places.get(canonicalize_name(name))


def make_plan(
    tree: Tree, project: ProjectTable, target: Target, answers: Mapping[str, Answer] | None = None
) -> Plan:
    """The plan for the project in `tree`; `answers` of build backends by directory.

    Raises ConfigError naming the file and line of everything that cannot be installed.
    """
    answers = answers or {}
    found = Findings(tree, target)
    extras: set[str] = {canonicalize_name(name) for name in project.extras}
    groups: set[str] = {canonicalize_name(name) for name in project.groups}
    _debian(found)
    _includes(found, project)
    try:
        named, steps = _read(found, project, extras, groups)
        own = len(found.lines)
        ask = _expand(found, groups, answers)
    except ValueError as error:
        raise ConfigError(str(error), code="invalid_requirements") from None
    except RecursionError:
        raise ConfigError("what the project needs is nested too deeply", code="invalid_requirements") from None
    if found.problems:
        raise ConfigError(
            f"{named or 'the project'} holds what cannot be installed",
            code="invalid_requirements",
            fields=_shown(found.problems),
        )
    return _finished(found, named, steps, ask, answers, own)


def _read(
    found: Findings, project: ProjectTable, extras: set[str], groups: set[str]
) -> tuple[str | None, list[Step]]:
    named = project.requirements or _usual(found, bool(extras or groups))
    if named is None:
        for key, names in (("extras", project.extras), ("groups", project.groups)):
            if names:
                found.problems[f"project.{key}"] = f"{names!r}: there is no pyproject.toml that could declare them"
        return None, []
    path = found.tree.at(named)
    if path is None or not path.is_file():
        raise ConfigError(
            f"samovar.toml names {named!r} for its requirements, and the project has no such file",
            fields={
                "project.requirements": found.tree.absence(named)
                if outside(named)
                else f"{named!r} is not there (is it ignored by .gitignore or .samovarignore?)"
            },
        )
    base = posixpath.basename(named)
    reader = _LOCKS.get(base) or (read_pylock if base.startswith("pylock.") else None)
    if reader is not None:
        return named, take_pins(found, reader(found, named, extras, groups))
    if base in {"pyproject.toml", "setup.py", "setup.cfg"}:
        _own(found, named, extras)
        return named, []
    if path.suffix == ".toml":
        raise ConfigError(
            f"{named} is no file of dependencies that is known here",
            code="invalid_requirements",
            fields={"project.requirements": f"{named!r}: name pyproject.toml, pylock.toml or a requirements file"},
        )
    for key, names in (("extras", project.extras), ("groups", project.groups)):
        if names:
            found.problems[f"project.{key}"] = (
                f'{names!r}: a requirements file has none; set requirements = "pyproject.toml", or write '
                f'"-e .[{",".join(names)}]" into {named}'
            )
    read_requirements_file(found, named)
    return named, []


def _own(found: Findings, named: str, extras: set[str]) -> None:
    where = posixpath.dirname(named) or "."
    path = found.tree.at(where)
    assert path is not None, "its file is there"
    if not pyproject.declares(found.tree, where) and not pyproject.is_package(found.tree, where):
        raise ConfigError(
            f"{named} has no [project] table with dependencies; name a requirements file instead",
            code="invalid_requirements",
            fields={"project.requirements": f"{named!r} lists no dependencies in [project]"},
        )
    library = found.libraries.setdefault(where, Library(where, path, "project.extras"))
    library.extras |= extras
    library.included, library.declared = False, True


def _usual(found: Findings, declared: bool) -> str | None:
    tree = found.tree
    there = [name for name in _USUAL if tree.at(name) is not None]
    own = next((name for name in ("pyproject.toml", "setup.py") if tree.at(name) is not None), None)
    if own is not None and (declared or pyproject.declares(tree, ".")):
        there.append(own)
    if declared and there[:1] == ["requirements.txt"] and len(there) > 1:
        there.pop(0)
    if not there:
        for name in ("Pipfile", "environment.yml", "environment.yaml", "conda.yaml"):
            if tree.at(name) is not None:
                found.problems["project.requirements"] = (
                    f"{name} is nothing that pip reads; "
                    + ("commit Pipfile.lock" if name == "Pipfile" else "write its packages into requirements.txt")
                    + ', or say requirements = "…"'
                )
        found.notices += _unread(tree)
        return None
    others = [name for name in there[1:] if there[0] not in _LOCKS or name in _LOCKS]
    if others:
        found.notices.append(f"dependencies come from {there[0]}, and not from {', '.join(others)}")
    return there[0]


def _unread(tree: Tree) -> list[str]:
    """Said where nothing is installed, and a file looks as if something was to be."""
    named = sorted({*tree.root.glob("*requirements*.*"), *tree.root.glob("requirements/*.*")})
    names = [path.relative_to(tree.root).as_posix() for path in named if path.suffix in {".txt", ".in"}]
    if not names:
        return []
    return [f'no dependencies: {", ".join(names[:5])} would have to be named, as in requirements = "{names[0]}"']


def _includes(found: Findings, project: ProjectTable) -> None:
    for number, where in enumerate(found.tree.include):
        path = found.tree.at(where)
        if path is None:
            shown = project.include[number]
            found.problems[f"project.include[{number}]"] = (
                f"{shown!r} is not in the archive; deploy with a `samovar` that knows include, "
                "and check that .gitignore leaves it in"
            )
        elif path.is_dir():
            found.libraries.setdefault(where, Library(where, path, f"project.include[{number}]", included=True))


def _debian(found: Findings) -> None:
    names = found.target.debian_libraries
    if names and not found.target.debian:
        found.problems["project.apt"] = (
            f"{', '.join(names)}: packages of Debian's own Python, which is not the python3 of this base image and "
            "would not see them; name them in the requirements"
        )


def _expand(found: Findings, groups: set[str], answers: Mapping[str, Answer]) -> list[Library]:
    """Read what each library needs, which may name further ones; gives those that nobody has asked yet."""
    ask: list[Library] = []
    done: dict[str, frozenset[str]] = {}
    while todo := [lib for where, lib in found.libraries.items() if done.get(where) != frozenset(lib.extras)]:
        for library in todo:
            done[library.where] = frozenset(library.extras)
            package = pyproject.is_package(found.tree, library.where)
            if not library.included and not package and library.where != ".":
                found.problems[library.place] = (
                    f"{library.where!r} has no pyproject.toml or setup.py that pip could install; "
                    "name it in include of samovar.toml to import from it"
                )
            elif library.expand:
                own = groups if library.declared else set()
                answer = answers.get(library.where)
                if not pyproject.take_directory(found, library, own, answer) and library not in ask:
                    ask.append(library)
            elif library.where not in answers and not pyproject.name_of_directory(found.tree, library.where):
                ask.append(library)
    return ask


def _finished(
    found: Findings,
    named: str | None,
    steps: list[Step],
    ask: list[Library],
    answers: Mapping[str, Answer],
    own_lines: int,
) -> Plan:
    local: set[str | None] = set()
    for where in (".", *found.libraries):
        own = pyproject.name_of_directory(found.tree, where)
        local.add(own or (canonicalize_name(answers[where].name) if where in answers else None))
    # what the source itself holds is never taken from an index, where anybody may have put that name
    local.discard(None)
    written = _kept(found.lines[:own_lines], local)
    derived = [line for line in _kept(found.lines[own_lines:], local) if line not in written]
    if any(" --hash" in line for line in written):
        # pip wants hashes of all in a file or of none, and what libraries ask for has none
        options = [line for line in written if line.startswith("--") and line != "--require-hashes"]
        files = {"requirements.txt": written, "libraries.txt": [*options, *derived]}
    else:
        files = {"requirements.txt": [*written, *derived]}
    constraints = _kept(found.constraints, local)
    for file, lines in files.items():
        if any(not line.startswith("-") or line.startswith(("-r ", "-c ")) for line in lines):
            found.files[file] = _joined(lines)
            steps = [*steps, Step(file)]
    if constraints and steps:
        found.files["constraints.txt"] = _joined(constraints)
    for here in sorted({name_of(line) or "" for line in found.lines} & local):
        found.notices.append(f"{found.places.get(here, here)}: {here} is in the source, and comes from no index")
    libraries = [lib for lib in found.libraries.values() if lib.where != "." and not lib.declared]
    for where in [own for own in found.libraries if pyproject.name_of_directory(found.tree, own) == SDK_NAME]:
        found.left_out.append(f"{found.libraries.pop(where).place}: {where}")
    libraries = [lib for lib in libraries if lib.where in found.libraries]
    installed = [lib for lib in libraries if pyproject.is_package(found.tree, lib.where)]
    bare = [lib for lib in libraries if lib not in installed]
    name = pyproject.name_of_directory(found.tree, ".")
    version = pyproject.version_of_directory(found.tree, ".")
    if "." in answers:
        name, version = canonicalize_name(answers["."].name), answers["."].version
    return Plan(
        named,
        found.files,
        found.trees,
        steps,
        libraries=installed,
        ask=ask,
        paths=importable.paths(found.tree, bare),
        project=_known(name, version),
        system=found.target.sees_system,
        places=found.places,
        left_out=found.left_out,
        notices=found.notices,
    )


def _shown(problems: dict[str, str]) -> dict[str, str]:
    """As much as somebody reads: a file may hold a hundred thousand lines, each a hundred thousand letters long."""
    shown = {
        path[:200]: text if len(text) <= 1000 else f"{text[:700]} … {text[-200:]}"
        for path, text in list(problems.items())[:_MOST_SHOWN]
    }
    if len(problems) > _MOST_SHOWN:
        shown["…"] = f"and {len(problems) - _MOST_SHOWN} more"
    return shown


def _known(name: str | None, version: str | None) -> tuple[str, str] | None:
    # both become the name of a directory in the image
    if name is None or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        return None
    return name, version if version and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*", version) else UNKNOWN_VERSION


def _kept(lines: list[str], local: Set[str | None]) -> list[str]:
    return list(dict.fromkeys(line for line in lines if name_of(line) is None or name_of(line) not in local))


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
