"""`samovar top` on a terminal, beside real containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack, stack, written
from tests.terminal import terminal

pytestmark = pytest.mark.docker

CODE = """
import time
from pathlib import Path
from samovar import task

@task(memory="128m", mounts={"ledger": "/ledger"})
def patient():
    while not Path("/ledger/go").exists():
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(SAMOVAR_RUNNER_STEMS="0", SAMOVAR_RUNNER_HEARTBEAT="500ms") as made:
        made.deploy_path(written(tmp_path_factory.mktemp("top"), "topsight", CODE))
        yield made


def test_a_run_and_its_container_are_seen_to_come_and_to_end(samovar: Stack) -> None:
    with terminal(samovar.data, "top", "--every", "0.5") as seen:
        seen.until("no runs")
        with samovar.client() as client:
            run = client.trigger("patient").id
        seen.until(f"{run}  running")
        seen.until("1 busy")
        (Path(samovar.ledger) / "go").touch()
        seen.until(f"{run}  completed")
        seen.until("1 idle")
        seen.type("q")
    assert seen.process.returncode == 0
