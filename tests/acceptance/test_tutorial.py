"""The tutorial, typed word for word: its commands, its files, and what it says they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.stack import Stack, deployed_projects, stack

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-task.md"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass
class Command:
    line: str
    expected: list[str] = field(default_factory=list)


def blocks() -> Iterator[tuple[str, str]]:
    """(kind, text) of each block of the tutorial, in order."""
    yield from BLOCK.findall(TUTORIAL.read_text("utf-8"))


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.strip():
            found[-1].expected.append(line)
    return found


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        yield made


def test_the_tutorial_as_it_is_written(samovar: Stack, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SAMOVAR_DATA": str(samovar.data)}
    deployed_projects.add("parcels")
    directory, last_run, typed = tmp_path, "", 0
    for kind, text in blocks():
        if kind == "python":
            name = text.splitlines()[0].removeprefix("# ")
            (directory / name).write_text(text)
            continue
        for command in commands(text):
            if command.line in ("make setup", "samovar up") or command.line.startswith("export "):
                continue  # this suite runs after the first, and the fixture is the second
            if command.line.startswith("cd "):
                directory /= command.line[3:]
                continue
            line = command.line.replace("RUN", last_run)
            done = subprocess.run(
                ["sh", "-c", line], cwd=directory, env=environment, capture_output=True, text=True,
                timeout=120, check=False,
            )  # fmt: skip
            typed += 1
            said = done.stdout + done.stderr
            codes = [int(e.removeprefix("exit code ")) for e in command.expected if e.startswith("exit code ")]
            assert done.returncode == (codes[0] if codes else 0), (line, said)
            for expected in command.expected:
                assert expected.startswith("exit code ") or expected in said, (line, said)
            if found := re.search(r"run_[0-9a-z]+", said):
                last_run = found.group() if line.startswith("samovar trigger") else last_run
    assert typed >= 12, "the tutorial's commands were not found"


def test_what_the_readme_says_to_type_is_there() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"[$`] ?make ([a-z]+)", readme))
    assert {"demo", "test", "help"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link
