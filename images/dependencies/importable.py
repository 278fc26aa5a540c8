"""Where a source's modules begin: `src/` layouts, and libraries that are imported from where they lie."""

from __future__ import annotations

import posixpath
from typing import Any

from images.dependencies.findings import Library
from images.dependencies.pyproject import document_of
from images.dependencies.tables import table, tables, texts
from images.dependencies.tree import Tree, join, packed


def paths(tree: Tree, bare: list[Library]) -> list[str]:
    """Directories of the deployed source, the project's own top aside, in which imports are looked for.

    `bare` are the libraries that pip does not install.
    """
    where = [own for own in roots(tree, ".") if own != "."]
    for library in bare:
        where += roots(tree, library.where)
    return [packed(own) for own in dict.fromkeys(where)]


def roots(tree: Tree, where: str) -> list[str]:
    """The directories in which the modules of the project at `where` begin."""
    document = document_of(tree, where)
    named = [join(where, own) for own in _declared(document)]
    there = [own for own in named if _directory(tree, own)]
    source = join(where, "src")
    if not there and _directory(tree, source) and not _is_module(tree, source) and _holds_modules(tree, source):
        there = [source]
    return list(dict.fromkeys(there)) or [where]


def _declared(document: dict[str, Any]) -> list[str]:
    """What setuptools, poetry, hatch and pdm were told of where packages lie."""
    setuptools = table(document, "tool", "setuptools")
    found = texts(table(setuptools, "packages", "find").get("where"))
    found += texts(table(setuptools, "package-dir").get(""))
    found += [str(item["from"]) for item in tables(table(document, "tool", "poetry"), "packages") if "from" in item]
    wheel = table(document, "tool", "hatch", "build", "targets", "wheel")
    found += texts(wheel.get("sources"))
    found += [posixpath.dirname(package) for package in texts(wheel.get("packages")) if "/" in package]
    found += texts(table(document, "tool", "pdm", "build").get("package-dir"))
    return [own for own in found if not own.startswith("/") and ".." not in own.split("/")]


def _directory(tree: Tree, where: str) -> bool:
    path = tree.at(where)
    return path is not None and path.is_dir()


def _is_module(tree: Tree, where: str) -> bool:
    return tree.at(join(where, "__init__.py")) is not None


def _holds_modules(tree: Tree, where: str) -> bool:
    path = tree.at(where)
    return path is not None and any(
        child.suffix == ".py" or (child.is_dir() and any(child.glob("*.py"))) for child in path.iterdir()
    )
