"""Attempts from inside a run: none gets anywhere, and the host is as it was. In gVisor: test_untrusted.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.attempts import attempt
from tests.security.inside import ALL, Tried, tried, wreck
from tests.stack import Stack, stack
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("unchanged_host")

MIB = 1024**2


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("insider")
        yield made


@pytest.fixture(scope="module")
def seen(samovar: Stack) -> dict[str, str]:
    return tried(samovar)


def lines() -> list[Any]:
    """Each attempt as a line of the page."""
    made = []
    for one in ALL:
        mark = attempt("run", one.tried, one.control, ", ".join(sorted(one.answers)), one.told)
        made.append(pytest.param(one, marks=mark, id=one.name))
    return made


@pytest.mark.parametrize("one", lines())
def test_on_runc(seen: dict[str, str], one: Tried) -> None:
    assert seen[one.name] in one.answers


def test_every_attempt_is_a_line(seen: dict[str, str]) -> None:
    assert set(seen) == {one.name for one in ALL}


# ---------------------------------------------------------------- using things up, and staying


@attempt("run", "fork without end", "pids limit", "EAGAIN at 128 processes", "EAGAIN at 64 processes")
def test_a_fork_bomb(samovar: Stack) -> None:
    assert wreck(samovar, "fork-bomb")["result"] < 128


@attempt("run", "open descriptors without end", "nofile limit", "EMFILE at 4096", "EMFILE at 4096")
def test_all_descriptors(samovar: Stack) -> None:
    assert wreck(samovar, "all-descriptors")["result"] < 4096


@attempt("run", "fill scratch", "size of tmpfs", "ENOSPC", "ENOSPC")
def test_all_of_scratch(samovar: Stack) -> None:
    assert wreck(samovar, "all-of-scratch")["result"] <= 16 * MIB


@attempt("run", "make files without end", "inodes of tmpfs", "ENOSPC", "out of memory")
def test_all_inodes(samovar: Stack) -> None:
    assert wreck(samovar, "all-inodes")["result"] < 20_000


@attempt("run", "take memory without end", "memory limit", "out_of_memory", "out_of_memory")
def test_all_memory(samovar: Stack) -> None:
    assert wreck(samovar, "all-memory")["error"]["reason"] == "out_of_memory"


@attempt("run", "take memory without end, in children", "memory limit", "out_of_memory", "out_of_memory")
def test_all_memory_by_children(samovar: Stack) -> None:
    run = wreck(samovar, "all-memory-by-children")
    assert run["status"] in ("failed", "completed", "timed_out")
    assert run["usage"]["peak_memory_bytes"] <= 96 * MIB


@attempt("run", "print 300 MB", "log limit of a run", "8 MiB are kept")
def test_much_output(samovar: Stack) -> None:
    run = wreck(samovar, "much-output", mebibytes=300)
    assert run["status"] == "completed", run["error"]
    database = sum(path.stat().st_size for path in samovar.data.rglob("*") if path.is_file())
    assert database < 64 * MIB


@attempt(
    "run",
    "forge log lines of another run or of Samovar's own",
    "process 1 names stream and run itself",
    "kept as output",
)
def test_forged_lines(samovar: Stack) -> None:
    run = wreck(samovar, "forge-logs")
    found = samovar.cli("runs", "logs", run["id"])
    forged = [line for line in found if "forged" in line["message"]]
    assert forged
    assert {line["stream"] for line in forged} <= {"stdout", "logging"}
    assert all(line["at"] > "2000" for line in forged)


@attempt("run", "kill(-1)", "process 1 is the pid namespace's first", "the run ends, and its container")
def test_kill_all(samovar: Stack) -> None:
    assert wreck(samovar, "kill-all")["status"] in ("failed", "completed")


@attempt("run", "kill(1) with every signal", "the kernel spares the first of a pid namespace", "no effect")
def test_kill_one(samovar: Stack) -> None:
    run = wreck(samovar, "kill-one")
    assert (run["status"], run["result"]) == ("completed", "still there")


@attempt("run", "leave a daemon that ignores every signal", "every process is killed after a run", "gone")
def test_a_daemon_does_not_stay(samovar: Stack) -> None:
    run = wreck(samovar, "stay")
    assert run["status"] == "completed"


@attempt(
    "run", "poison the zygote", "not dumpable, prlimit filtered, changes are seen", "EPERM, or the container goes"
)
def test_a_poisoned_zygote(samovar: Stack) -> None:
    run = wreck(samovar, "poison")
    assert set(run["result"]) >= {"limits", "memory", "oom"}


@attempt("neighbour", "take every inotify instance", "a user id for each container", "the neighbour has as many")
def test_inotify_instances_are_each_containers_own(samovar: Stack) -> None:
    alone = samovar.finished("all-watches", hold=False)["result"]
    assert alone > 8
    with samovar.client() as client:
        holder = client.trigger("all-watches", {"hold": True})
        eventually(lambda: "held" in str(samovar.cli("runs", "logs", holder.id)), "all to be taken")
        beside = samovar.finished("all-watches", hold=False)["result"]
        holder.cancel()
    assert beside == alone


@attempt(
    "run", "untrusted: run where there is no gVisor", 'trust="untrusted"', "the deploy is refused, with the remedy"
)
def test_without_gvisor_it_is_refused_and_never_run_in_another_way(samovar: Stack, tmp_path: Path) -> None:
    project = tmp_path / "refused"
    project.mkdir()
    (project / "samovar.toml").write_text('[project]\nname = "refused"\ntasks = ["t"]\n')
    (project / "t.py").write_text('from samovar import task\n@task(trust="untrusted")\ndef t() -> None: ...\n')
    said = samovar.run("deploy", str(project))
    assert said.returncode == 2
    assert "gVisor" in said.stdout
    assert "runsc" in said.stdout
