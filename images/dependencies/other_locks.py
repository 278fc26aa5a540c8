"""pdm.lock, Pipfile.lock and pylock.toml: lists that say themselves what each package is for."""

from __future__ import annotations

from typing import Any

from packaging.utils import canonicalize_name

from images.dependencies.findings import Findings
from images.dependencies.pins import Pin, hash_texts, locked_path
from images.dependencies.tables import broken, json_file, table, tables, texts, toml


def read_pdm_lock(found: Findings, where: str, extras: set[str], groups: set[str]) -> list[Pin]:
    """The packages of the groups `default`, `extras` and `groups` of a pdm.lock."""
    document = toml(found.tree, where)
    wanted = {"default"} | extras | groups
    known: set[str] = {canonicalize_name(name) for name in texts(table(document, "metadata").get("groups"))}
    for key, names in (("extras", extras), ("groups", groups)):
        for name in sorted(names - known if known else ()):
            listed = ", ".join(sorted(known))
            found.problems[f"project.{key} {name}"] = f"{name!r} is not locked in {where}; its groups are {listed}"
    pins: dict[str, Pin] = {}
    for package in tables(document, "package"):
        name = str(package.get("name"))
        own: set[str] = {canonicalize_name(text) for text in texts(package.get("groups"))} or {"default"}
        if not own & wanted or not found.target.holds(package.get("marker")):
            continue
        python = package.get("requires_python")
        if isinstance(python, str) and not found.target.accepts(python):
            continue
        files = package.get("files") or table(document, "metadata", "files").get(f"{name} {package.get('version')}")
        pin = Pin(name, str(package.get("version")), f"{where}: {name}", hash_texts(list(files or [])))
        _place(pin, package, where)
        # a package is listed once more for each of its extras
        pins.setdefault(canonicalize_name(name), pin)
    return list(pins.values())


def _place(pin: Pin, package: dict[str, Any], where: str) -> None:
    if isinstance(git := package.get("git"), str):
        revision = package.get("revision") or package.get("ref")
        part = f"#subdirectory={package['subdirectory']}" if package.get("subdirectory") else ""
        pin.url, pin.hashes = f"git+{git}{f'@{revision}' if revision else ''}{part}", []
    elif isinstance(path := package.get("path", package.get("file")), str):
        pin.path = locked_path(where, path)
    elif isinstance(url := package.get("url"), str):
        pin.url = url


def read_pipfile_lock(found: Findings, where: str, extras: set[str], groups: set[str]) -> list[Pin]:
    """The packages of `default`, and of the categories that `groups` name (`dev` is `develop`)."""
    document = json_file(found.tree, where)
    sources = {str(s.get("name")): s.get("url") for s in tables(table(document, "_meta"), "sources")}
    first = next(iter(sources), None)
    for extra in sorted(extras):
        found.problems[f"project.extras {extra}"] = f"{where} knows no extras; name a category with groups"
    pins: dict[str, Pin] = {}
    for category in ["default", *sorted(groups)]:
        category = "develop" if category in {"dev", "dev-packages"} else category
        if category not in document:
            listed = ", ".join(name for name in document if name != "_meta")
            found.problems[f"project.groups {category}"] = f"{category!r} is not in {where}; there are {listed}"
        for name, item in table(document, category).items():
            item = item if isinstance(item, dict) else {"version": item}
            if not found.target.holds(item.get("markers")):
                continue
            version = str(item.get("version", "")).removeprefix("==").strip()
            pin = Pin(name, version or None, f"{where}: {name}", hash_texts(list(item.get("hashes") or [])))
            index = item.get("index") or first
            url = sources.get(index) if isinstance(index, str) else None
            pin.index = url if isinstance(url, str) else None
            if item.get("git") or item.get("path") or item.get("file") or item.get("url"):
                remote = str(item.get("file", "")).startswith(("http://", "https://"))
                _place(pin, {**item, "url": item["file"], "file": None} if remote else item, where)
                pin.index = None
            pins.setdefault(canonicalize_name(name), pin)
    return list(pins.values())


def read_pylock(found: Findings, where: str, extras: set[str], groups: set[str]) -> list[Pin]:
    """The packages of a pylock.toml (PEP 751) whose markers hold."""
    document = toml(found.tree, where)
    if str(document.get("lock-version", "")).split(".")[0] != "1":
        raise broken(where, f"has lock-version {document.get('lock-version')!r}, and 1.0 is what is known here")
    python = document.get("requires-python")
    if isinstance(python, str) and not found.target.accepts(python):
        found.problems[f"{where} requires-python"] = f"{python!r} does not admit the image's Python"
    wanted = groups or {canonicalize_name(name) for name in texts(document.get("default-groups"))}
    for key, names, listed in (
        ("extras", extras, texts(document.get("extras"))),
        ("groups", groups, texts(document.get("dependency-groups"))),
    ):
        for name in sorted(names - {canonicalize_name(text) for text in listed}):
            there = ", ".join(listed) or "none"
            found.problems[f"project.{key} {name}"] = f"{name!r} is not in {where}; there {key} are {there}"
    pins = []
    for package in tables(document, "packages"):
        if not found.target.holds(package.get("marker"), extras, wanted):
            continue
        pins.append(_pylock_pin(package, where))
    return pins


def _pylock_pin(package: dict[str, Any], where: str) -> Pin:
    name, version = str(package.get("name")), package.get("version")
    pin = Pin(name, version if isinstance(version, str) else None, f"{where}: {name}")
    files = [*tables(package, "wheels"), table(package, "sdist"), table(package, "archive")]
    pin.hashes = [f"{kind}:{value}" for file in files for kind, value in table(file, "hashes").items()]
    index = package.get("index")
    pin.index = index if isinstance(index, str) else None
    vcs, archive, directory = (table(package, key) for key in ("vcs", "archive", "directory"))
    if vcs:
        _place(pin, {"git": vcs.get("url"), "revision": vcs.get("commit-id"), **_part(vcs)}, where)
    elif isinstance(path := directory.get("path", archive.get("path")), str):
        pin.path = locked_path(where, path)
    elif isinstance(url := archive.get("url"), str):
        pin.url = url + (f"#subdirectory={archive['subdirectory']}" if archive.get("subdirectory") else "")
    return pin


def _part(item: dict[str, Any]) -> dict[str, Any]:
    return {"subdirectory": item["subdirectory"]} if item.get("subdirectory") else {}
