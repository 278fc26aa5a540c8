"""uv.lock: a graph of packages, walked from the project with the extras and groups that are asked for."""

from __future__ import annotations

import posixpath
from typing import Any

from packaging.utils import canonicalize_name

from images.dependencies.findings import Findings
from images.dependencies.pins import Pin, hash_texts, locked_path
from images.dependencies.pyproject import name_of_directory
from images.dependencies.tables import broken, table, tables, toml

_DIRECTORIES = ("editable", "virtual", "directory")


def read_uv_lock(found: Findings, where: str, extras: set[str], groups: set[str]) -> list[Pin]:
    """What of the lock at `where` this project needs here. Wrong names are problems of `found`."""
    document = toml(found.tree, where)
    packages = tables(document, "package")
    root = _root(packages, where, name_of_directory(found.tree, "."))
    if root is None:
        raise broken(where, "holds no package for this directory; run `uv lock` beside its pyproject.toml")
    if isinstance(python := document.get("requires-python"), str) and not found.target.accepts(python):
        version = found.target.environment["python_full_version"]
        found.problems[f"{where} requires-python"] = (
            f"{python!r} does not admit the image's Python {version}; set python in samovar.toml"
        )
    return _Walk(found, where, packages, root, extras, groups).pins()


class _Walk:
    def __init__(
        self,
        found: Findings,
        where: str,
        packages: list[dict[str, Any]],
        root: dict[str, Any],
        extras: set[str],
        groups: set[str],
    ) -> None:
        self.found, self.where, self.root = found, where, root
        self.extras, self.groups = extras, groups
        self.by_name: dict[str, list[dict[str, Any]]] = {}
        for package in packages:
            self.by_name.setdefault(canonicalize_name(str(package.get("name"))), []).append(package)
        # where extras exclude each other, uv writes them into markers in this way
        name = str(root.get("name"))
        self.active = [f"extra-{len(name)}-{name}-{extra}" for extra in extras]
        self.active += [f"group-{len(name)}-{name}-{group}" for group in groups]

    def pins(self) -> list[Pin]:
        name = str(self.root.get("name"))
        start = list(tables(self.root, "dependencies"))
        for kind, wanted, key in (
            ("optional-dependencies", self.extras, "extras"),
            ("dev-dependencies", self.groups, "groups"),
        ):
            known = {canonicalize_name(k): v for k, v in table(self.root, kind).items()}
            for one in sorted(wanted):
                if canonicalize_name(one) in known:
                    start += tables({"list": known[canonicalize_name(one)]}, "list")
                elif not self._declared(kind, one):
                    names = ", ".join(known) or "none"
                    self.found.problems[f"project.{key} {one}"] = (
                        f"{one!r} is not in {self.where} for {name}; there {'are' if known else 'is'} {names}"
                    )
        chosen: dict[int, Pin | None] = {}
        seen: set[tuple[int, str]] = set()
        queue = start
        while queue:
            entry = queue.pop()
            if not self._holds(entry):
                continue
            package = self._package(entry)
            if package is None or package is self.root:
                continue
            if id(package) not in chosen:
                chosen[id(package)] = self._pin(package)
                queue += tables(package, "dependencies")
            for extra in entry.get("extra") or []:
                if (id(package), extra) not in seen:
                    seen.add((id(package), extra))
                    queue += tables(table(package, "optional-dependencies"), extra)
        return [pin for pin in chosen.values() if pin is not None]

    def _declared(self, kind: str, name: str) -> bool:
        # an empty extra or group is in the metadata alone
        provided = table(self.root, "metadata").get("provides-extras" if kind.startswith("opt") else "")
        return isinstance(provided, list) and name in provided

    def _holds(self, entry: dict[str, Any]) -> bool:
        return self.found.target.holds(entry.get("marker"), self.active)

    def _package(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        name = canonicalize_name(str(entry.get("name")))
        self.found.spend(1 + len(self.by_name.get(name, [])))
        fitting = [
            package
            for package in self.by_name.get(name, [])
            if all(key not in entry or entry[key] == package.get(key) for key in ("version", "source"))
        ]
        if len(fitting) > 1:
            forks = [p for p in fitting if self._forked(p)]
            fitting = forks or fitting
        if not fitting:
            self.found.problems[f"{self.where}: {name}"] = f"{name!r} is needed and not locked; run `uv lock`"
            return None
        return fitting[0]

    def _forked(self, package: dict[str, Any]) -> bool:
        markers = package.get("resolution-markers")
        return not markers or any(self.found.target.holds(marker, self.active) for marker in markers)

    def _pin(self, package: dict[str, Any]) -> Pin | None:
        source = table(package, "source")
        name, version = str(package.get("name")), package.get("version")
        pin = Pin(name, version if isinstance(version, str) else None, f"{self.where}: {name}")
        pin.hashes = hash_texts([package.get("sdist"), *tables(package, "wheels")])
        if isinstance(registry := source.get("registry"), str):
            if registry.startswith(("http://", "https://")):
                pin.index = registry
            else:
                pin.links = locked_path(self.where, registry)
        elif isinstance(git := source.get("git"), str):
            pin.url, pin.hashes = _git(git), []
        elif isinstance(url := source.get("url"), str):
            pin.url = url + (f"#subdirectory={source['subdirectory']}" if source.get("subdirectory") else "")
        elif isinstance(path := source.get("path"), str):
            pin.path = locked_path(self.where, path)
        else:
            directory = next((source[key] for key in _DIRECTORIES if isinstance(source.get(key), str)), None)
            if directory is None:
                self.found.problems[pin.place] = f"a source of a kind that is not known here: {source!r}"
                return None
            if "virtual" in source:
                # a member that is no package: its dependencies count, and it itself is not installed
                return None
            pin.path = locked_path(self.where, directory)
        return pin


def _git(text: str) -> str:
    """`https://host/repo?rev=main&subdirectory=x#commit` as pip writes it."""
    address, _, commit = text.partition("#")
    address, _, query = address.partition("?")
    options = dict(part.partition("=")[::2] for part in query.split("&") if part)
    directory = f"#subdirectory={options['subdirectory']}" if "subdirectory" in options else ""
    return f"git+{address}{f'@{commit}' if commit else ''}{directory}"


def _root(packages: list[dict[str, Any]], where: str, name: str | None) -> dict[str, Any] | None:
    """The project's own package: by its place, or by its name in the lock of a workspace that lies above it."""
    named = None
    for package in packages:
        source = table(package, "source")
        for key in _DIRECTORIES:
            if isinstance(source.get(key), str):
                if posixpath.normpath(locked_path(where, source[key])) == ".":
                    return package
                if name is not None and canonicalize_name(str(package.get("name"))) == name:
                    named = package
    return named
