"""poetry.lock: packages with their files, walked from what pyproject.toml asks for."""

from __future__ import annotations

import posixpath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from images.dependencies.findings import Findings
from images.dependencies.pins import Pin, hash_texts, locked_path
from images.dependencies.poetry_tables import NotPep508, poetry_requirements, requirement_text
from images.dependencies.pyproject import document_of
from images.dependencies.tables import broken, table, tables, texts, toml


def read_poetry_lock(found: Findings, where: str, extras: set[str], groups: set[str]) -> list[Pin]:
    """What of the lock at `where` the pyproject.toml beside it needs here."""
    lock = toml(found.tree, where)
    directory = posixpath.dirname(where) or "."
    document = document_of(found.tree, directory)
    if not document:
        raise broken(where, "needs the pyproject.toml it was made from beside it")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for entry in tables(lock, "package"):
        by_name.setdefault(canonicalize_name(str(entry.get("name"))), []).append(entry)
    roots = _roots(found, document, extras, groups)
    chosen: dict[int, Pin] = {}
    seen: set[tuple[int, str]] = set()
    queue: list[tuple[str, str, list[str]]] = roots
    while queue:
        name, constraint, wanted = queue.pop()
        package = _choose(found, by_name.get(canonicalize_name(name), []), constraint)
        if package is None:
            found.problems[f"{where}: {name}"] = f"{name!r} is needed and not locked; run `poetry lock`"
            continue
        if id(package) not in chosen:
            chosen[id(package)] = _pin(lock, package, where)
            queue += _needs(found, package, None)
        for extra in wanted:
            if (id(package), extra) not in seen:
                seen.add((id(package), extra))
                queue += _needs(found, package, extra)
    return list(chosen.values())


def _roots(
    found: Findings, document: dict[str, Any], extras: set[str], groups: set[str]
) -> list[tuple[str, str, list[str]]]:
    project = table(document, "project")
    lines = texts(project.get("dependencies"))
    optional: dict[str, Any] = {canonicalize_name(k): v for k, v in table(project, "optional-dependencies").items()}
    declared: dict[str, Any] = {canonicalize_name(k): v for k, v in table(document, "dependency-groups").items()}
    legacy: dict[str, str] = {canonicalize_name(k): k for k in table(document, "tool", "poetry", "extras")}
    known_groups = {*declared, *map(canonicalize_name, table(document, "tool", "poetry", "group")), "dev"}
    for extra in sorted(extras):
        if extra not in optional and extra not in legacy:
            found.problems[f"project.extras {extra}"] = f"{extra!r} is no extra of pyproject.toml"
        lines += texts(optional.get(extra))
    for group in sorted(groups):
        if group not in known_groups:
            found.problems[f"project.groups {group}"] = f"{group!r} is no group of pyproject.toml"
        lines += texts(declared.get(group))
    roots: list[tuple[str, str, list[str]]] = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            found.problems[f"pyproject.toml {line}"] = str(error)
            continue
        if found.target.holds(str(requirement.marker or "")):
            roots.append((requirement.name, str(requirement.specifier), sorted(requirement.extras)))
    named = {canonicalize_name(name) for name, _, _ in roots}
    for _, name, item in poetry_requirements(document, {legacy.get(e, e) for e in extras}, groups):
        # beside [project], poetry's own table only says where its packages come from
        if canonicalize_name(name) not in named or not lines:
            roots += _entry(found, name, item)
    return roots


def _needs(found: Findings, package: dict[str, Any], extra: str | None) -> list[tuple[str, str, list[str]]]:
    entries: list[tuple[str, str, list[str]]] = []
    wanted = None
    if extra is not None:
        lines = table(package, "extras").get(extra)
        wanted = {canonicalize_name(line.split(" ")[0].split("[")[0].split(";")[0]) for line in texts(lines)}
    for name, value in table(package, "dependencies").items():
        for item in value if isinstance(value, list) else [value]:
            item = {"version": item} if isinstance(item, str) else dict(item)
            optional = bool(item.get("optional"))
            if (extra is None and not optional) or (wanted is not None and canonicalize_name(name) in wanted):
                entries += _entry(found, name, item, extra)
    return entries


def _entry(
    found: Findings, name: str, item: dict[str, Any], extra: str | None = None
) -> list[tuple[str, str, list[str]]]:
    if not found.target.holds(item.get("markers"), [extra] if extra else []):
        return []
    wanted: list[str] = [canonicalize_name(text) for text in texts(item.get("extras"))]
    try:
        requirement = Requirement(requirement_text(name, {**item, "markers": None, "extras": None}))
        if not found.target.holds(str(requirement.marker or "")):
            return []
        return [(name, str(requirement.specifier), wanted)]
    except (NotPep508, InvalidRequirement):
        return [(name, "", wanted)]


def _choose(found: Findings, packages: list[dict[str, Any]], constraint: str) -> dict[str, Any] | None:
    found.spend(1 + len(packages))
    if len(packages) > 1:
        packages = [p for p in packages if found.target.holds(_marker(p))] or packages
    for package in packages if len(packages) > 1 else []:
        try:
            if SpecifierSet(constraint).contains(str(package.get("version")), prereleases=True):
                return package
        except InvalidSpecifier:
            break
    return packages[0] if packages else None


def _marker(package: dict[str, Any]) -> object:
    markers = package.get("markers")
    return next(iter(markers.values()), None) if isinstance(markers, dict) else markers


def _pin(lock: dict[str, Any], package: dict[str, Any], where: str) -> Pin:
    name = str(package.get("name"))
    files = package.get("files") or table(lock, "metadata", "files").get(name) or []
    pin = Pin(name, str(package.get("version")), f"{where}: {name}", hash_texts(list(files)))
    source = table(package, "source")
    url = str(source.get("url", ""))
    match source.get("type"):
        case "git":
            revision = source.get("resolved_reference") or source.get("reference")
            part = f"#subdirectory={source['subdirectory']}" if source.get("subdirectory") else ""
            pin.url, pin.hashes = f"git+{url}{f'@{revision}' if revision else ''}{part}", []
        case "url":
            pin.url = url
        case "file" | "directory":
            pin.path = locked_path(where, url)
        case "legacy":
            pin.index = url
    return pin
