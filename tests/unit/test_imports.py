"""Privilege is the architecture: what each part may import is read from the code itself."""

from __future__ import annotations

import ast
import functools
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
    "images": {"coordinator.archive", "coordinator.confined", "coordinator.wire", "samovar.wire"},
    "runner": {"images", "coordinator.keeping", "coordinator.wire", "samovar.wire"},
    "sidecar": {"coordinator.wire", "samovar.wire"},
}

#: The coordinator's rooms, in the order of their imports: each uses itself and those before it.
ROOMS = (
    *(
        "archive",
        "confined",
        "wire",
        "keeping",
        "foundation",
        "signals",
        "storage",
        "tasks",
        "access",
        "files",
        "history",
        "line",
    ),
    *("waits", "runs", "attempts", "sources", "deployments", "settings", "context", "why", "maintenance"),
    *("api", "dashboard", "app", "connections", "listening", "__main__"),
)


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that `path` imports, wherever in the file; `from a import b` counts as `a.b`."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
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


def test_what_others_import_of_the_coordinator_is_a_leaf() -> None:
    models = sorted((FOLDERS["coordinator"] / "wire").glob("*.py"))
    assert models
    for path, allowed in (
        *((path, {"pydantic", "coordinator.wire"}) for path in models),
        (FOLDERS["coordinator"] / "archive.py", set()),
        (FOLDERS["coordinator"] / "confined.py", set()),
        *(
            (path, {"cachetools", "coordinator.confined", "coordinator.keeping"})
            for path in files("coordinator")
            if path.parent.name == "keeping"
        ),
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
    assert found == {"runner/docker_engine.py", "images/docker_client.py"}


def test_what_helpers_may_take_is_said_in_one_place() -> None:
    found = {
        str(path.relative_to(ROOT))
        for part in OURS
        for path in files(part)
        if any(name in path.read_text("utf-8") for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE"))
    }
    assert found == {"coordinator/confined.py"}


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


def room_of(module: str) -> str:
    """`coordinator.runs.plans` → `runs`."""
    return module.split(".")[1]


def test_rooms_of_the_coordinator_point_one_way() -> None:
    folder = FOLDERS["coordinator"]
    rooms = {path.relative_to(folder).parts[0].removesuffix(".py") for path in files("coordinator")} - {"__init__"}
    assert rooms == set(ROOMS)
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files("coordinator")
        for module in imports(path)
        if module.startswith("coordinator.")
        and ROOMS.index(room_of(module)) > ROOMS.index(path.relative_to(folder).parts[0].removesuffix(".py"))
    ]
    assert not wrong


def test_rooms_say_what_they_are() -> None:
    rooms = [path for path in FOLDERS["coordinator"].iterdir() if (path / "__init__.py").exists()]
    for room in [*rooms, FOLDERS["coordinator"] / "api" / "fleet"]:
        if room.name == "wire":
            continue
        tree = ast.parse((room / "__init__.py").read_text("utf-8"))
        said = ast.get_docstring(tree)
        assert said, room
        assert len(said.splitlines()) == 3, f"{room}: what it holds, what it promises, who may call it"
        assert len(tree.body) == 1, room


def module_of(part: str, path: Path) -> str:
    names = [part, *path.relative_to(FOLDERS[part]).with_suffix("").parts]
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


@pytest.mark.parametrize("part", sorted(OURS))
def test_no_modules_import_each_other_in_a_circle(part: str) -> None:
    modules = {module_of(part, path): path for path in files(part)}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = {m if m in modules else m.rpartition(".")[0] for m in imports(path)}
        # what a package re-exports of itself is no dependency of its parts
        graph[name] = {m for m in found if m in modules and m != name and not name.startswith(m + ".")}
    left = dict(graph)
    while ends := [name for name, needs in left.items() if not needs & set(left)]:
        for name in ends:
            del left[name]
    # whatever only leads to a circle goes too
    while starts := [name for name in left if not any(name in needs for needs in left.values())]:
        for name in starts:
            del left[name]
    assert not left, {name: sorted(needs & set(left)) for name, needs in left.items()}
