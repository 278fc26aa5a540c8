"""What was found out about images, kept from one process to the next."""

from __future__ import annotations

import os
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from images.known import Known, packed, unpacked


def test_what_was_found_is_there_for_the_next_who_asks_the_same(tmp_path: Path) -> None:
    known = Known(tmp_path / "state" / "known")
    assert known.get("base", "sha256:1") is None
    known.put(b"one", "base", "sha256:1")
    known.put(b"", "base", "sha256:2")
    again = Known(tmp_path / "state" / "known")
    assert again.get("base", "sha256:1") == b"one"
    assert again.get("base", "sha256:2") == b""
    assert again.get("base", "sha256:") is None
    assert again.get("bases", "ha256:1") is None
    known.put(b"two", "base", "sha256:1")
    assert again.get("base", "sha256:1") == b"two"
    assert stat.S_IMODE((tmp_path / "state" / "known").stat().st_mode) == 0o700


def test_what_is_damaged_is_found_out_anew(tmp_path: Path) -> None:
    known = Known(tmp_path)
    known.put(b"much that was found", "base", "sha256:1")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-1], b"", whole + b"x", whole[:-1] + b"?"):
        file.write_bytes(damaged)
        assert known.get("base", "sha256:1") is None


def test_the_oldest_are_thrown_away(tmp_path: Path) -> None:
    known = Known(tmp_path)
    for number in range(80):
        known.put(b"x", "base", str(number))
        for file in tmp_path.iterdir():
            os.utime(file, (file.stat().st_mtime - 1,) * 2)
    assert [number for number in range(80) if known.get("base", str(number))] == list(range(16, 80))


def test_many_may_find_out_the_same_at_once(tmp_path: Path) -> None:
    known = Known(tmp_path)
    data = bytes(range(256)) * 4096
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(known.put, data, "base", str(number % 3)) for number in range(60)]:
            done.result()
    assert [known.get("base", str(number)) for number in range(3)] == [data] * 3
    assert len(list(tmp_path.iterdir())) == 3


def test_files_come_out_as_they_went_in() -> None:
    file, directory = tarfile.TarInfo("usr/bin/su"), tarfile.TarInfo("var/mail")
    file.size, file.mode, file.uid = 2, 0o755, 7
    directory.type, directory.mode, directory.gid = tarfile.DIRTYPE, 0o775, 8
    found = [(entry.name, entry.mode, entry.uid, entry.gid, entry.isdir(), data)
             for entry, data in unpacked(packed([(file, b"su"), (directory, b"")]))]  # fmt: skip
    assert found == [("usr/bin/su", 0o755, 7, 0, False, b"su"), ("var/mail", 0o775, 0, 8, True, b"")]
