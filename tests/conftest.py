"""What every test may lean on: the base image, and a check that tests leave nothing behind."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.database import Database
from tests import compiled, stack

# Where this is set (as in many container images) each of the some thousand processes of the suite would compile all
# that it imports, and each worker all of the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
compiled.share()


@pytest.fixture(scope="session")
def base_image() -> str:
    """The base image of this machine, made on first use and kept."""
    result = subprocess.run(
        [sys.executable, "-m", "images", "base", "--json"], check=True, capture_output=True, text=True, timeout=900
    )
    return str(json.loads(result.stdout)["image"])


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new coordinator's SQLite database, to be copied: that takes a hundredth of the time of making it anew."""
    path = tmp_path_factory.mktemp("migrated") / "coordinator.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()  # and so all of it is in the one file
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules of tests/unit wait more than they compute: spread among the others, which do the reverse, they leave
    no processor without work, and they are the last, since they are short. Those of tests/browser share a browser,
    and stay together.
    """
    blocks: dict[str, list[pytest.Item]] = {}
    for item in items:
        module = item.nodeid.partition("::")[0]
        blocks.setdefault("tests/browser" if module.startswith("tests/browser/") else module, []).append(item)
    short = [name for name in blocks if name.startswith("tests/unit/")]
    long = [name for name in blocks if not name.startswith("tests/unit/")]
    place = {name: number / len(short) for number, name in enumerate(short)}
    place |= {name: 0.92 * number / len(long) for number, name in enumerate(long)}
    items[:] = [item for name in sorted(blocks, key=lambda name: place[name]) for item in blocks[name]]


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: nobody looks through it again and again for garbage."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: an archive bears the second it was packed in, and processes that share
    the suite would each collect a test by another name.
    """
    return argname if isinstance(val, bytes) else None


def pytest_testnodedown(node: Any) -> None:
    """A worker's projects: another may still use images of one's, so all of them go at the very end."""
    stack.deployed_projects.update(getattr(node, "workeroutput", {}).get("projects", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["projects"] = sorted(stack.deployed_projects)
    elif stack.deployed_projects:
        stack.remove_traces()
