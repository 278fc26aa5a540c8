"""What making a base image needs, said before anything is begun."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from images import bootstrap
from images.errors import BaseError


def test_what_is_missing_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(bootstrap, "_KEYRING", tmp_path / "gone.gpg")
    with pytest.raises(BaseError) as caught:
        bootstrap.make(None, labels={}, log=print)  # type: ignore[arg-type]
    for words in ("root", "apt-get install mmdebstrap", "debian-archive-keyring", 'base = "…"'):
        assert words in caught.value.problem.message


def test_a_mirror_that_does_not_answer_is_named_and_nothing_is_left(monkeypatch, tmp_path) -> None:
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("needs root and mmdebstrap")
    monkeypatch.setattr(bootstrap, "debian_mirror", lambda: "http://127.0.0.1:9/debian")
    monkeypatch.setattr(bootstrap.tempfile, "mkdtemp", lambda prefix: str(_made(tmp_path / "work")))
    with pytest.raises(BaseError, match=r"127\.0\.0\.1:9"):
        bootstrap.make(None, labels={}, log=lambda line: None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def _made(path):
    path.mkdir()
    return path


class Importing:
    """A builder that takes what was packed."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def image_id(self, name: str) -> None:
        return None

    def import_tar(self, archive: Path, name: str, *, changes: list[str]) -> None:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                self.files[member.name] = content.read() if content is not None else b""


#: Does as mmdebstrap where the mirror has no security archive.
NO_SECURITY = """#!/bin/sh
for word; do
    case "$word" in
    *debian-security*) mkdir -p "$root/half"; echo "E: no InRelease of the security archive"; exit 25 ;;
    /*) root="$word" ;;
    esac
done
mkdir -p "$root/etc/apt/apt.conf.d" "$root/etc/apt/sources.list.d" "$root/etc/dpkg/dpkg.cfg.d" "$root/usr/share/doc"
echo "Acquire::https::CAInfo" > "$root/etc/apt/apt.conf.d/99mmdebstrap"
echo "deb [signed-by=/keys] x" > "$root/etc/apt/sources.list.d/0000main.list"
"""


def test_a_mirror_without_security_updates_still_makes_a_base_that_names_nothing_of_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or not bootstrap._KEYRING.is_file():
        pytest.skip("needs root and debian-archive-keyring")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mmdebstrap").write_text(NO_SECURITY)
    (programs / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(bootstrap, "debian_mirror", lambda: "http://127.0.0.1:9/debian")
    builder, said = Importing(), list[str]()
    bootstrap.make(builder, labels={}, log=said.append)  # type: ignore[arg-type]
    assert [line for line in said if line.startswith("without security updates") and "no InRelease" in line]
    assert b"99mmdebstrap" not in b"".join(name.encode() for name in builder.files)
    assert not any("half" in name or "0000main" in name for name in builder.files)
    # a user of the base can have them where they are to be had
    assert b"bookworm-security" in builder.files["./etc/apt/sources.list"]
    assert b"signed-by" not in builder.files["./etc/apt/sources.list"]
