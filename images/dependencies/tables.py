"""TOML and JSON of a source, read so that a file which is not what it says is an error with its name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from images.dependencies.tree import Tree
from images.errors import ConfigError


def toml(tree: Tree, where: str) -> dict[str, Any]:
    """The TOML file at `where`, which is there."""
    try:
        return tomllib.loads(tree.text(where))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise broken(where, f"is not valid TOML: {error}") from None


def json_file(tree: Tree, where: str) -> dict[str, Any]:
    """The JSON object in the file at `where`, which is there."""
    try:
        document = json.loads(tree.text(where))
    except (ValueError, RecursionError) as error:
        raise broken(where, f"is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise broken(where, "is not a JSON object")
    return document


def broken(where: str, what: str) -> ConfigError:
    return ConfigError(f"{where} {what}", code="invalid_requirements", fields={where: what})


def table(document: object, *keys: str) -> dict[str, Any]:
    """The table at `keys`, empty where there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def tables(document: object, key: str) -> list[dict[str, Any]]:
    """The tables in the list `key`."""
    value = document.get(key) if isinstance(document, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    """The texts in a list, or the text itself."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def numbered(value: object) -> Iterator[tuple[int, object]]:
    """The items of a list with their numbers; nothing of what is no list."""
    yield from enumerate(value if isinstance(value, list) else [])
