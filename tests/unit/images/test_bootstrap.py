"""What making a base image needs, said before anything is begun."""

from __future__ import annotations

import os
import shutil

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
