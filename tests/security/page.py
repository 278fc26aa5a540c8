"""docs/reference/isolation.md out of the marks of the tests: `python -m tests.security.page` writes it anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.security.attempts import SEATS, Attempt

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "isolation.md"
HEAD = """# Isolation: what is tried, and what holds

<!-- Written by `python -m tests.security.page` from the marks of tests/security; a test compares it with them. -->

Each line is a test that runs on the shipped defaults. *gVisor* is what the same attempt meets in a container of
`trust="untrusted"`; a dash means that the seat does not depend on the container's runtime. What is promised to whom
stands in [SECURITY.md](../../SECURITY.md). `make isolation-mutants` switches controls off, one by one, and sees
that the tests notice.
"""


class Collector:
    """A plugin that keeps the attempts of all tests that are found."""

    def __init__(self) -> None:
        self.found: list[Attempt] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        marks: list[Any] = [mark for item in items for mark in item.iter_markers("attempt")]
        self.found = list(dict.fromkeys(mark.args[0] for mark in marks))


def page(found: list[Attempt]) -> str:
    """The whole page."""
    parts = [HEAD]
    for seat, title in SEATS.items():
        rows = sorted((a.control, a.tried, a.expected, a.runsc or "—") for a in found if a.seat == seat)
        if rows:
            parts += [f"## {title}", "", "| control | attempt | answer | gVisor |", "|---|---|---|---|"]
            parts += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
            parts.append("")
    return "\n".join(parts)


def write() -> str:
    """The page as the tests of now make it; printed to stdout by `python -m tests.security.page --print`."""
    collector = Collector()
    options = ["--collect-only", "-qq", str(Path(__file__).parent)]
    if pytest.main(options, plugins=[collector]) != 0:
        raise SystemExit("the tests of tests/security could not be collected")
    return page(collector.found)


def generated() -> str:
    """The same out of a process of its own, for a test in which pytest runs already."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.page", "--print"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout[done.stdout.index("# Isolation") :]


if __name__ == "__main__":
    made = write()
    if "--print" in sys.argv:
        print(made, end="")
    else:
        PAGE.write_text(made, "utf-8")
