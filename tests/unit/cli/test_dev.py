"""What `samovar dev` sees of a folder, and of the runs of a project."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samovar.cli.api import Credentials, connected
from samovar.cli.changes import Changes
from samovar.cli.tailing import Tail

from tests.unit.cli.conftest import ADMIN, Hand, Install
from tests.waiting import eventually

#: Seconds between two looks: short, so that a test is; what a user has is longer.
PAUSE = 0.05


class Watched:
    """A folder that is watched in a thread, as `samovar dev` does: each change that was seen, by the names."""

    def __init__(self, root: Path) -> None:
        self.seen: list[list[str]] = []
        self._changes = Changes(root, pause=PAUSE)
        self._ending = threading.Event()
        self._before = self._changes.look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ending.is_set():
            names = self._changes.wait(self._before, self._ending)
            self._before = self._changes.look()
            if names:
                self.seen.append(names)

    def sees(self, act: Callable[[], object]) -> set[str]:
        """The names that are seen to change by `act`, all at once or one after the other, until nothing is new."""
        before = len(self.seen)
        act()
        eventually(lambda: len(self.seen) > before, "the change to be seen")
        return {name for names in self.seen[before:] for name in names}

    def close(self) -> None:
        self._ending.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "service"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git").rename(folder.parent / ".git")
    (folder.parent / "libs" / "common").mkdir(parents=True)
    (folder.parent / "libs" / "common" / "prices.py").write_text("PRICE = 1\n")
    (folder / "samovar.toml").write_text(
        '[project]\nname = "demo"\ntasks = ["tasks"]\ninclude = ["../libs/common"]\n'
    )
    (folder / "tasks.py").write_text("A = 1\n")
    (folder / ".gitignore").write_text("*.log\n")
    return folder


@pytest.fixture
def watched(root: Path) -> Any:
    made = Watched(root)
    yield made
    made.close()


def test_what_is_written_made_removed_and_moved_is_seen(root: Path, watched: Watched) -> None:
    assert watched.sees(lambda: (root / "tasks.py").write_text("A = 2\n")) == {"tasks.py"}
    assert watched.sees(lambda: (root / "more.py").write_text("")) == {"more.py"}
    assert watched.sees((root / "more.py").unlink) == {"more.py"}

    # as editors save: beside it, and then in its place
    (root / "tasks.log").write_text("A = 3\n")
    assert watched.sees(lambda: (root / "tasks.log").replace(root / "tasks.py")) == {"tasks.py"}


def test_what_include_brings_is_watched_too(root: Path, watched: Watched) -> None:
    prices = root.parent / "libs" / "common" / "prices.py"
    assert watched.sees(lambda: prices.write_text("PRICE = 20\n")) == {".samovar-include/1/libs/common/prices.py"}


def test_a_broken_samovar_toml_is_a_change_and_so_is_setting_it_right(root: Path, watched: Watched) -> None:
    toml = root / "samovar.toml"
    good = toml.read_text()
    assert "samovar.toml" in watched.sees(lambda: toml.write_text("[project"))
    # meanwhile its includes are what they were
    prices = root.parent / "libs" / "common" / "prices.py"
    assert watched.sees(lambda: prices.write_text("PRICE = 300\n")) == {".samovar-include/1/libs/common/prices.py"}
    assert "samovar.toml" in watched.sees(lambda: toml.write_text(good))


def test_what_is_not_packed_is_not_seen(root: Path, watched: Watched) -> None:
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "tasks.cpython-311.pyc").write_bytes(b"x")
    (root / "run.log").write_text("x")
    # the next change that counts brings none of them along
    assert watched.sees(lambda: (root / "tasks.py").write_text("A = 22\n")) == {"tasks.py"}
    assert watched.seen == [["tasks.py"]]


def test_a_file_that_cannot_be_packed_does_not_end_it(root: Path, watched: Watched) -> None:
    away = root / "away.py"
    assert watched.sees(lambda: away.symlink_to("/etc/hostname")) >= {"not the project"}
    assert watched.sees(away.unlink) >= {"not the project"}


def test_a_folder_that_never_rests_is_seen_all_the_same(root: Path) -> None:
    changes, ending = Changes(root, pause=PAUSE), threading.Event()
    before = changes.look()

    def restless() -> None:
        count = 0
        while not ending.wait(PAUSE / 10):
            count += 1
            (root / "tasks.py").write_text("A = 1\n" * (count % 50 + 2))

    writer = threading.Thread(target=restless)
    writer.start()
    try:
        assert changes.wait(before, threading.Event()) == ["tasks.py"]
    finally:
        ending.set()
        writer.join(10)


def test_every_line_of_every_run_is_told_once_and_with_its_end(install: Install, hand: Hand, project: Path) -> None:
    install.json("deploy", str(project))
    trigger = ("trigger", "demo/greet", "--payload", '{"name": "Ada"}')
    earlier = install.json(*trigger, "--wait")["id"]
    delayed = install.json(*trigger, "--delay", "1h")["id"]
    told: list[tuple[str, str]] = []

    def tell(run: dict[str, Any], line: dict[str, Any] | None) -> None:
        told.append((run["id"], run["status"] if line is None else f"log: {line['message']}"))

    with connected(Credentials(install.url, ADMIN, "the test")) as api:
        tail = Tail(api, "demo", tell)
        tail.step()
        assert told == [(delayed, "delayed")]
        ids = [install.json(*trigger, "--wait")["id"] for _ in range(3)]
        for _ in range(3):
            tail.step()
        for run in ids:
            assert [what for which, what in told if which == run] == ["log: from the task", "completed"]
        install.json("runs", "cancel", delayed)
        tail.step()
        assert [what for which, what in told if which == delayed] == ["delayed", "canceled"]
        assert earlier not in {which for which, _ in told}


def test_a_coordinator_that_is_away_does_not_end_the_telling() -> None:
    ending = threading.Event()
    with connected(Credentials("http://127.0.0.1:9", "k", "the test")) as api:
        thread = threading.Thread(target=Tail(api, "demo", lambda run, line: None).run, args=(ending,))
        thread.start()
        assert not ending.wait(0.2)
        assert thread.is_alive()
        ending.set()
        thread.join(10)
        assert not thread.is_alive()


def test_a_folder_without_a_project_is_refused_before_anything_starts(install: Install, tmp_path: Path) -> None:
    assert "samovar init" in install.samovar("dev", str(tmp_path), code=2).err


def test_a_key_that_opens_nothing_is_refused_before_anything_starts(install: Install, project: Path) -> None:
    arguments = ("dev", str(project), "--url", install.url, "--api-key", "wrong")
    assert install.json(*arguments, code=2)["error"]["message"]
    away = ("--url", "http://127.0.0.1:9", "--api-key", "k")
    assert install.json("dev", str(project), *away, code=3)["error"]["code"] == "unreachable"
