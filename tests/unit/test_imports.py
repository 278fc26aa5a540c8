"""Privilege is the architecture: what each part may import is read from the code itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"coordinator", "runner", "sidecar", "images", "samovar"}
FOLDERS = {name: ROOT / name for name in OURS - {"samovar"}} | {"samovar": ROOT / "sdk" / "samovar"}

#: part → what of ours it may import besides itself
MAY = {
    "samovar": set(),
    "coordinator": set(),
    "images": {"coordinator.wire", "samovar.wire"},
    "runner": {"images", "coordinator.wire", "samovar.wire"},
    "sidecar": {"coordinator.wire", "samovar.wire"},
}


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` imports, wherever in the file; `from a import b` counts as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(part: str) -> list[Path]:
    return sorted(FOLDERS[part].rglob("*.py"))


def within(module: str, allowed: set[str]) -> bool:
    return any(module == a or module.startswith(a + ".") for a in allowed)


@pytest.mark.parametrize("part", sorted(OURS))
def test_imports_point_one_way(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files(part)
        for module in imports(path)
        if module.split(".")[0] in OURS - {part} and not within(module, MAY[part])
    ]
    assert files(part)
    assert not wrong


def test_wire_files_are_leaves() -> None:
    models = sorted((FOLDERS["coordinator"] / "wire").glob("*.py"))
    assert models
    for path, allowed in (
        *((path, {"pydantic", "coordinator.wire"}) for path in models),
        (FOLDERS["samovar"] / "wire.py", set()),
    ):
        wrong = [m for m in imports(path) if not within(m, allowed | set(sys.stdlib_module_names))]
        assert not wrong, path


def test_docker_is_imported_by_two_files_only() -> None:
    found = {
        str(path.relative_to(ROOT))
        for part in OURS
        for path in files(part)
        if any(module.split(".")[0] == "docker" for module in imports(path))
    }
    assert found == {"runner/docker_engine.py", "images/docker_builder.py"}


@pytest.mark.parametrize("library", ["sqlalchemy", "psycopg", "sqlite3", "alembic"])
def test_only_the_coordinator_has_a_database(library: str) -> None:
    found = {
        part
        for part in OURS
        for path in files(part)
        if any(module.split(".")[0] == library for module in imports(path))
    }
    assert found <= {"coordinator"}


def test_sdk_is_standard_library_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files("samovar")
        if FOLDERS["samovar"] / "cli" not in path.parents
        for module in imports(path)
        if module.split(".")[0] not in {*sys.stdlib_module_names, "samovar"}
    ]
    assert not wrong
