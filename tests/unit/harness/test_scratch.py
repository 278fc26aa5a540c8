"""Scratch folders between runs: what may be left unlooked at, and what never."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from samovar.harness import cleanup


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were listed."""
    found: list[str] = []
    listdir = os.listdir

    def noted(folder: Any) -> list[str]:
        found.append(str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", noted)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # a folder's time of change can't be set back: the clock is what is an hour ahead
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
    place = tmp_path / "scratch"
    place.mkdir()
    return place


def scratch(folder: Path) -> cleanup.Scratch:
    made = cleanup.Scratch([str(folder)])
    made.remember()
    return made


def test_a_folder_that_nobody_touched_is_not_listed(folder: Path, looks: list[str]) -> None:
    one = scratch(folder)
    looks.clear()
    assert [one.wipe() for _ in range(5)] == [0] * 5
    assert looks == []


def _file(folder: Path) -> None:
    (folder / "left").write_text("secret")


def _file_with_old_times(folder: Path) -> None:
    before = folder.stat()
    _file(folder)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def _folder_inside(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    _file(folder / "a" / "b")


def _mode(folder: Path) -> None:
    folder.chmod(0o700)


def _attribute(folder: Path) -> None:
    with suppress(OSError):  # tmpfs has none before Linux 6.6
        os.setxattr(folder, "user.left", b"secret")


@pytest.mark.parametrize("deed", [_file, _file_with_old_times, _folder_inside, _mode, _attribute])
def test_what_a_run_leaves_is_gone_whatever_it_does_to_the_times(
    folder: Path, looks: list[str], deed: Callable[[Path], None]
) -> None:
    mode = folder.stat().st_mode
    one = scratch(folder)
    for _ in range(2):
        deed(folder)
        assert one.wipe() == 0
        assert (list(folder.iterdir()), os.listxattr(folder), folder.stat().st_mode) == ([], [], mode)
    looks.clear()
    assert one.wipe() == 0
    assert looks == []


def test_a_change_as_young_as_the_clocks_steps_is_looked_at_again(
    folder: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes within one step have the same time, so that the second would not show."""
    one = scratch(folder)
    _file(folder)
    monkeypatch.setattr(time, "time_ns", lambda: folder.stat().st_ctime_ns)  # the clock stands still
    assert one.wipe() == 0
    for _ in range(3):
        looks.clear()
        assert one.wipe() == 0
        assert looks
    monkeypatch.setattr(time, "time_ns", lambda: folder.stat().st_ctime_ns + 10**9)
    one.wipe()
    looks.clear()
    one.wipe()
    assert looks == []


def test_a_folder_that_imports_have_filled_is_looked_at_each_time(folder: Path, looks: list[str]) -> None:
    (folder / "cache").mkdir()
    (folder / "cache" / "made").write_text("at import")
    one = scratch(folder)
    (folder / "cache" / "made").write_text("by the run")
    assert one.wipe() == 1
    assert looks


def test_a_folder_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    one = scratch(tmp_path / "none")
    assert one.wipe() == 0
