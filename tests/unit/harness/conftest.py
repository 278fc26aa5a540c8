from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.harness.listener import Container


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Makes harnesses: `container(code, silent=False, defaults=None, **environment)`."""
    made: list[Container] = []

    def make(
        code: str, *, silent: bool = False, defaults: dict[str, Any] | None = None, **environment: str
    ) -> Container:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Container(folder, code, silent=silent, defaults=defaults, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()
