"""isolation="inline" from the decorator to the container: one process kept, and nobody beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import Stack, stack
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

TASKS = """
import os, time
import samovar
from samovar import checkpoint, task

count = 0


def seen() -> list:
    global count
    count += 1
    return [os.getpid(), count]


@task(memory="64m")
def inline() -> list:
    open("/tmp/left", "w").close()
    return [*seen(), checkpoint("mine", lambda: count)]


@task(memory="64m")
def another() -> list:
    return [*seen(), os.listdir("/tmp")]


@task(memory="64m", isolation="process")
def separate() -> list:
    return seen()


@task(memory="64m", isolation="container")
def alone() -> list:
    return seen()


@task(memory="64m", secrets=["KEY"])
def secret() -> list:
    return [len(samovar.secret("KEY")), len(os.environ["KEY"]), *seen()]


@task(memory="64m")
def no_secret() -> list:
    return ["KEY" in os.environ, *seen()]


@task(memory="64m", timeout="2s")
def slow() -> None:
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("inline") / "inline"
    folder.mkdir()
    (folder / "tasks.py").write_text(TASKS)
    (folder / "samovar.toml").write_text(
        '[project]\nname = "inline"\ntasks = ["tasks"]\n\n[defaults]\nisolation = "inline"\nnetwork = "none"\n'
    )
    with stack() as made:
        made.deploy_path(folder)
        yield made


def test_inline_tasks_share_a_process_and_no_container_with_others(samovar: Stack) -> None:
    first = samovar.finished("inline")["result"]
    second = samovar.finished("inline")["result"]
    third = samovar.finished("another")["result"]
    assert [second, third] == [[first[0], first[1] + 1, second[1]], [first[0], first[1] + 2, []]]
    assert [samovar.finished("separate")["result"][1] for _ in range(2)] == [1, 1]
    assert samovar.finished("alone")["result"][1] == 1
    assert samovar.finished("another")["result"] == [first[0], first[1] + 3, []]

    def ready() -> list[str]:
        used = [entry for entry in samovar.pool() if entry["runs"]]
        return sorted(entry["task"] for entry in used if entry["state"] == "idle")

    # one of the inline tasks, one of the others; none of a task with a container for each run
    eventually(lambda: ready() == ["another", "separate"], "the two containers that are kept")


def test_secrets_are_those_of_each_run(samovar: Stack) -> None:
    samovar.cli("secrets", "set", "KEY", "--project", "inline", stdin="hidden")
    first = samovar.finished("secret")["result"]
    assert first[:2] == [6, 6]
    assert samovar.finished("no-secret")["result"] == [False, first[2], first[3] + 1]
    samovar.cli("secrets", "set", "KEY", "--project", "inline", stdin="another one")
    assert samovar.finished("secret")["result"] == [11, 11, first[2], first[3] + 2]


def test_a_timeout_costs_the_process_and_no_later_run(samovar: Stack) -> None:
    before = samovar.finished("another")["result"]
    run = samovar.finished("slow")
    assert run["status"] == "timed_out"
    assert samovar.finished("another")["result"][1] == 1 < before[1]
