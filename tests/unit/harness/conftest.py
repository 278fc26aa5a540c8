from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.harness.listener import Container


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Makes harnesses: `container(code, silent=False, **environment)`."""
    made: list[Container] = []

    def make(code: str, *, silent: bool = False, **environment: str) -> Container:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Container(folder, code, silent=silent, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()
