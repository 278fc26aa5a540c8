"""`[tool.poetry]`, whose constraints and sources are written in a way of their own, as requirements of pip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from images.dependencies.tables import table, texts


class NotPep508(ValueError):
    """A constraint that cannot be written as a specifier of pip."""


def poetry_requirements(
    document: dict[str, Any], extras: set[str], groups: set[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each requirement of `[tool.poetry]`: where it stands, its name, its table. Optional ones by their extra."""
    poetry = table(document, "tool", "poetry")
    wanted = {name for extra in extras for name in texts(table(poetry, "extras").get(extra))}
    for name, value in table(poetry, "dependencies").items():
        for item in _variants(value):
            if name.lower() != "python" and (not item.get("optional") or name in wanted):
                yield f"tool.poetry.dependencies.{name}", name, item
    for group in sorted(groups):
        named = table(poetry, "group", group, "dependencies")
        if group == "dev" and not named:
            named = table(poetry, "dev-dependencies")
        for name, value in named.items():
            for item in _variants(value):
                yield f"tool.poetry.group.{group}.dependencies.{name}", name, item


def requirement_text(name: str, item: dict[str, Any]) -> str:
    """A requirement of pip: name, extras, specifier or URL, marker. Raises NotPep508."""
    extras = f"[{','.join(texts(item.get('extras')))}]" if item.get("extras") else ""
    markers = [f"({text})" for text in texts(item.get("markers"))]
    if isinstance(python := item.get("python"), str):
        markers += [f'python_full_version {operator} "{version}"' for operator, version in _specifiers(python)]
    if platform := item.get("platform"):
        markers.append(f'sys_platform == "{platform}"')
    marker = f" ; {' and '.join(markers)}" if markers else ""
    if isinstance(git := item.get("git"), str):
        return f"{name}{extras} @ {git_url(git, item)}{marker}"
    if isinstance(url := item.get("url"), str):
        return f"{name}{extras} @ {url}{marker}"
    version = item.get("version", "*")
    if not isinstance(version, str):
        raise NotPep508(f"{version!r} is no version")
    return f"{name}{extras}{','.join(f'{operator}{given}' for operator, given in _specifiers(version))}{marker}"


def git_url(git: str, item: dict[str, Any]) -> str:
    """A git repository as a URL of pip, at the revision that `item` names."""
    if match := re.match(r"git@([^:]+):(.*)$", git):
        git = f"ssh://git@{match[1]}/{match[2]}"
    revision = next((item[key] for key in ("rev", "tag", "branch") if isinstance(item.get(key), str)), None)
    directory = f"#subdirectory={item['subdirectory']}" if item.get("subdirectory") else ""
    return f"git+{git}{f'@{revision}' if revision else ''}{directory}"


def _variants(value: object) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"version": value}]
    if isinstance(value, list):
        return [item for one in value for item in _variants(one)]
    return [value] if isinstance(value, dict) else []


def _specifiers(constraint: str) -> list[tuple[str, str]]:
    """`^1.2` → `>=1.2,<2`; `~1.2` → `>=1.2,<1.3`; `1.*`, `*` and plain versions; PEP 440 as it is."""
    if "||" in constraint or re.search(r"\s\|\s", constraint):
        raise NotPep508(f"{constraint!r} is a choice, which pip cannot take; commit poetry.lock and name it")
    found: list[tuple[str, str]] = []
    for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", constraint.strip()):
        match = re.match(r"(\^|~=|~|===|==|!=|>=|<=|>|<|=)?\s*v?(\S+)$", part)
        if part in {"", "*"}:
            continue
        if match is None:
            raise NotPep508(f"{part!r} is no version")
        operator, version = match[1], match[2]
        if operator in {"^", "~"}:
            found += [(">=", version), ("<", _ceiling(operator, version))]
        elif operator in {None, "="}:
            found.append(("==", version))
        else:
            found.append((operator, version))
    return found


def _ceiling(operator: str, version: str) -> str:
    parts = [int(number) for number in re.findall(r"\d+", re.match(r"[\d.]*", version)[0])]  # type: ignore[index]
    if not parts:
        raise NotPep508(f"{operator}{version} is no version")
    if operator == "~":
        place = min(1, len(parts) - 1)
    else:
        place = next((i for i, number in enumerate(parts) if number), len(parts) - 1)
    return ".".join(str(number) for number in [*parts[:place], parts[place] + 1])
