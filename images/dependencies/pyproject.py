"""A directory's own word on what it needs: pyproject.toml, setuptools' files, or its build backend's answer."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from images.dependencies.findings import Findings, Library
from images.dependencies.poetry_tables import NotPep508, git_url, poetry_requirements, requirement_text
from images.dependencies.requirement_files import read_requirements_file
from images.dependencies.tables import numbered, table, tables, texts, toml
from images.dependencies.tree import Tree, join

#: The version of what has none outside of its repository, or none that stands written.
UNKNOWN_VERSION = "0+unknown"

_SETUPTOOLS = ("setuptools.build_meta", "setuptools.build_meta:__legacy__")


@dataclass(frozen=True)
class Answer:
    """What a build backend said of a directory: its metadata's name, version and `Requires-Dist` lines."""

    name: str
    version: str
    requires: list[str] = field(default_factory=list)
    python: str | None = None


def document_of(tree: Tree, where: str) -> dict[str, Any]:
    """The pyproject.toml of the directory `where`; empty where there is none."""
    file = join(where, "pyproject.toml")
    return toml(tree, file) if tree.at(file) is not None else {}


def has(tree: Tree, where: str, name: str) -> bool:
    return tree.at(join(where, name)) is not None


def is_package(tree: Tree, where: str) -> bool:
    """Whether pip can install the directory `where`."""
    document = document_of(tree, where)
    return has(tree, where, "setup.py") or any(
        table(document, *keys) for keys in (("project",), ("build-system",), ("tool", "poetry"), ("tool", "flit"))
    )


def declares(tree: Tree, where: str) -> bool:
    """Whether the directory says anything of what it needs, outside of a requirements file."""
    document = document_of(tree, where)
    project = table(document, "project")
    dynamic = bool({"dependencies", "optional-dependencies"} & set(texts(project.get("dynamic"))))
    if any(name in project for name in ("dependencies", "optional-dependencies")) or dynamic:
        return True
    if table(document, "tool", "poetry", "dependencies") or table(document, "dependency-groups"):
        return True
    if not project and table(document, "build-system") and has(tree, where, "setup.cfg"):
        return True
    return has(tree, where, "setup.py") or bool(table(document, "tool", "flit", "metadata"))


def name_of_directory(tree: Tree, where: str) -> str | None:
    """The name of the package in `where`, as far as it stands written."""
    document = document_of(tree, where)
    name = table(document, "project").get("name") or table(document, "tool", "poetry").get("name")
    return canonicalize_name(name) if isinstance(name, str) else None


def version_of_directory(tree: Tree, where: str) -> str | None:
    document = document_of(tree, where)
    version = table(document, "project").get("version") or table(document, "tool", "poetry").get("version")
    return version if isinstance(version, str) else None


def take_directory(found: Findings, library: Library, groups: set[str], answer: Answer | None) -> bool:
    """Collect what the project in `library` needs. False where only its build backend can say, and nobody asked."""
    tree, where = found.tree, library.where
    file = join(where, "pyproject.toml")
    document = document_of(tree, where)
    project = table(document, "project")
    dynamic = set(texts(project.get("dynamic")))
    python = project.get("requires-python") or (answer.python if answer else None)
    if isinstance(python, str) and not found.target.accepts(python):
        version = found.target.environment["python_full_version"]
        found.problems[f"{file} requires-python"] = (
            f"{python!r} does not admit the image's Python {version}; set python in samovar.toml, or widen it"
        )
    take_groups(found, document, file, groups)
    if not is_package(tree, where):
        if library.included and has(tree, where, "requirements.txt"):
            read_requirements_file(found, join(where, "requirements.txt"))
        if where == ".":
            found.notices.append(f"{library.place}: the project has no [project] table, so it asks for nothing")
        return True
    if answer is not None:
        _from_answer(found, library, answer)
        return True
    _indexes(found, document, file)
    if table(document, "tool", "poetry") and "dependencies" not in project and "dependencies" not in dynamic:
        _poetry(found, document, file, library.extras, groups)
        return True
    if not project or (table(document, "tool", "poetry") and "dependencies" in dynamic):
        return False
    return _project(found, library, document, file, dynamic)


def _project(found: Findings, library: Library, document: dict[str, Any], file: str, dynamic: set[str]) -> bool:
    project = table(document, "project")
    files = table(document, "tool", "setuptools", "dynamic")
    static = table(document, "build-system").get("build-backend", _SETUPTOOLS[0]) in _SETUPTOOLS
    if not isinstance(project.get("dependencies", []), list):
        found.problems[f"{file} dependencies"] = f"{project['dependencies']!r} is not a list"
        return True
    if "dependencies" in dynamic and not (static and _readable(found, files.get("dependencies"), library)):
        return False
    optional = "optional-dependencies" in dynamic
    named = table(files, "optional-dependencies")
    if optional and library.extras and not (static and all(_readable(found, n, library) for n in named.values())):
        return False
    if "dependencies" in dynamic:
        _take_files(found, files.get("dependencies"), library, file)
    for number, item in numbered(project.get("dependencies")):
        _take(found, document, item, f"{file} dependencies[{number}]", library.where)
    known = table(project, "optional-dependencies")
    for extra in sorted(library.extras):
        if optional and (key := _key(named, extra)) is not None:
            _take_files(found, named[key], library, file)
        elif (key := _key(known, extra)) is not None:
            for number, item in numbered(known[key]):
                _take(found, document, item, f"{file} optional-dependencies.{key}[{number}]", library.where)
        else:
            _unknown_extra(found, library, file, [*known, *named])
    return True


def take_groups(found: Findings, document: dict[str, Any], file: str, groups: set[str]) -> None:
    """Collect the `[dependency-groups]` named by `groups`; groups of poetry are taken with its table."""
    known = table(document, "dependency-groups")
    legacy = table(document, "tool", "poetry", "group")
    for group in sorted(groups):
        if _key(known, group) is not None:
            _group(found, document, file, group, ())
        elif _key(legacy, group) is None and not (group == "dev" and table(document, "tool", "poetry")):
            names = ", ".join([*known, *legacy]) or "none"
            found.problems[f"project.groups {group}"] = (
                f"{group!r} is no dependency group of {file}; its groups are {names}"
            )


def _group(found: Findings, document: dict[str, Any], file: str, name: str, seen: tuple[str, ...]) -> None:
    known = table(document, "dependency-groups")
    key = _key(known, name)
    if key is None or key in seen:
        what = "includes itself" if key else f"there is no group {name!r}"
        found.problems[f"{file} dependency-groups.{seen[-1] if seen else name}"] = what
        return
    if (file, key) in found.tables_taken:
        return
    found.tables_taken.add((file, key))
    for number, item in numbered(known[key]):
        place = f"{file} dependency-groups.{key}[{number}]"
        if isinstance(item, dict) and isinstance(other := item.get("include-group"), str):
            _group(found, document, file, other, (*seen, key))
        else:
            _take(found, document, item, place, posixpath.dirname(file) or ".")


def _take(found: Findings, document: dict[str, Any], item: object, place: str, where: str) -> None:
    """Take one requirement of a table, from where `[tool.uv.sources]` says it comes."""
    if not isinstance(item, str):
        found.problems[place] = f"{item!r} is not text"
        return
    try:
        requirement = Requirement(item)
    except InvalidRequirement:
        found.requirement(item, place, where)
        return
    sources = table(document, "tool", "uv", "sources")
    key = _key(sources, requirement.name)
    name = canonicalize_name(requirement.name)
    if name == name_of_directory(found.tree, where) and requirement.extras:
        # "everything" = ["orders[s3,gpu]"]: a project's extra made of its others
        optional = table(document, "project", "optional-dependencies")
        for extra in sorted(requirement.extras - {e for file, e in found.tables_taken if file == where}):
            found.tables_taken.add((where, extra))
            for own, text in numbered(optional.get(_key(optional, extra) or extra)):
                _take(found, document, text, f"{place} → {extra}[{own}]", where)
        return
    for source in [] if key is None else _listed(sources[key]):
        if not found.target.holds(source.get("marker")):
            continue
        if _from_source(found, document, requirement, source, place, where):
            return
    found.requirement(item, place, where)


def _from_source(
    found: Findings,
    document: dict[str, Any],
    requirement: Requirement,
    source: dict[str, Any],
    place: str,
    where: str,
) -> bool:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    if isinstance(path := source.get("path"), str):
        if requirement.marker is None or found.target.holds(str(requirement.marker)):
            found.local(f"./{path}{extras}" if not path.startswith(("/", ".")) else f"{path}{extras}", place, where)
    elif source.get("workspace"):
        member = workspace_member(found.tree, document, where, canonicalize_name(requirement.name))
        if member is None:
            found.problems[place] = (
                f"{requirement.name!r} is a member of a workspace, and the source has no such member; "
                'add include = ["../…"] with its directory to [project] of samovar.toml'
            )
        elif requirement.marker is None or found.target.holds(str(requirement.marker)):
            found.local(f"./{member}{extras}" if not member.startswith(".") else f"{member}{extras}", place, ".")
    elif isinstance(git := source.get("git"), str):
        found.requirement(f"{requirement.name}{extras} @ {git_url(git, source)}{marker}", place, where)
    elif isinstance(url := source.get("url"), str):
        found.requirement(f"{requirement.name}{extras} @ {url}{marker}", place, where)
    else:
        return False
    return True


def workspace_member(tree: Tree, document: dict[str, Any], where: str, name: str) -> str | None:
    """The directory of the workspace's member `name`, among the source's own and what it includes."""
    candidates = [where, *tree.include]
    for pattern in texts(table(document, "tool", "uv", "workspace").get("members")):
        root = tree.at(where)
        if root is None or ".." in pattern.split("/") or pattern.startswith("/") or "**" in pattern:
            continue
        candidates += [join(where, path.relative_to(root).as_posix()) for path in sorted(root.glob(pattern))]
    return next((own for own in candidates if name_of_directory(tree, own) == name), None)


def _poetry(found: Findings, document: dict[str, Any], file: str, extras: set[str], groups: set[str]) -> None:
    where = posixpath.dirname(file) or "."
    known = table(document, "tool", "poetry", "extras")
    for extra in sorted(extras):
        if _key(known, extra) is None:
            found.problems[f"project.extras {extra}"] = f"{extra!r} is no extra of {file}"
    keys = {_key(known, extra) or extra for extra in extras}
    for key, name, item in poetry_requirements(document, keys, groups):
        place = f"{file} {key}"
        path = item.get("path", item.get("file"))
        try:
            if isinstance(path, str):
                found.local(path if path.startswith((".", "/")) else f"./{path}", place, where)
            else:
                found.requirement(requirement_text(name, item), place, where)
        except NotPep508 as error:
            found.problems[place] = str(error)


def _indexes(found: Findings, document: dict[str, Any], file: str) -> None:
    """Package indexes that uv, poetry or pdm were told of, for pip."""
    for section, entries in (
        ("tool.uv.index", tables(table(document, "tool", "uv"), "index")),
        ("tool.poetry.source", tables(table(document, "tool", "poetry"), "source")),
        ("tool.pdm.source", tables(table(document, "tool", "pdm"), "source")),
    ):
        for entry in entries:
            url = entry.get("url")
            if not isinstance(url, str):
                continue
            first = entry.get("default") is True or entry.get("priority") in {"default", "primary"}
            line = f"{'--index-url' if first else '--extra-index-url'} {url}"
            if line in found.lines:
                continue
            found.option(line, f"{file} {section}", posixpath.dirname(file) or ".")
            if entry.get("explicit") or entry.get("priority") == "explicit":
                found.notices.append(
                    f"{file} {section}: pip asks {url} for every package, not for some alone; "
                    "a lock with hashes says which file each must be"
                )


def _from_answer(found: Findings, library: Library, answer: Answer) -> None:
    place = f"{join(library.where, 'pyproject.toml')} (its build backend)"
    provided: set[str] = set()
    for number, text in enumerate(answer.requires):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            found.requirement(text, f"{place}[{number}]", library.where)
            continue
        marker = str(requirement.marker) if requirement.marker else ""
        extra = next((e for e in library.extras if marker and found.target.holds(marker, [e])), None)
        if extra is not None:
            provided.add(extra)
        if not marker or found.target.holds(marker) or extra is not None:
            requirement.marker = None
            found.requirement(str(requirement), f"{place}[{number}]", library.where)
    for missing in sorted(library.extras - provided):
        found.notices.append(f"{place}: the extra {missing!r} asks for nothing here")


def _readable(found: Findings, named: object, library: Library) -> bool:
    files = texts(named.get("file")) if isinstance(named, dict) else []
    return bool(files) and all(has(found.tree, library.where, file) for file in files)


def _take_files(found: Findings, named: Any, library: Library, file: str) -> None:
    for name in texts(named.get("file")):
        read_requirements_file(found, join(library.where, name))


def _unknown_extra(found: Findings, library: Library, file: str, known: list[str]) -> None:
    for extra in sorted(library.extras):
        if all(canonicalize_name(name) != extra for name in known):
            names = ", ".join(known) or "none"
            found.problems[f"{library.place} {extra}"] = f"{extra!r} is no extra of {file}; its extras are {names}"


def _key(known: dict[str, Any], name: str) -> str | None:
    """The key of a table that is `name`, however it is written."""
    return next((key for key in known if canonicalize_name(key) == canonicalize_name(name)), None)


def _listed(value: object) -> list[dict[str, Any]]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
