"""What a project wrote is read in a process that ends at its limits, and never takes the runner with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from images.errors import ConfigError, SourceError
from images.project import read_project
from images.reading import Reader
from images.settings import ImageSettings
from tests.security.attempts import attempt
from tests.security.test_archives import member, packed

SMALL = ImageSettings(reading_memory=256 * 1024**2, reading_timeout=30)


@attempt("build", "a lock file that parses to gigabytes", "a process with limits of its own", "build fails")
def test_memory_has_an_end() -> None:
    with Reader(SMALL) as reader, pytest.raises(SourceError, match="256 MiB"):
        reader.call(bytes, 1024**3)


@attempt("build", "tables that take for ever to read", "a process with limits of its own", "build fails")
def test_time_has_an_end() -> None:
    with Reader(ImageSettings(reading_timeout=0.5)) as reader, pytest.raises(SourceError, match=r"0\.5 s"):
        reader.call(signal.pause)


def test_results_and_errors_come_back(tmp_path: Path) -> None:
    with Reader(SMALL) as reader:
        assert reader.call(sorted, [3, 1, 2]) == [1, 2, 3]
        with pytest.raises(SourceError) as refused:
            reader.call(read_project, tmp_path, tmp_path, "shop", SMALL)
        assert refused.value.problem.code == "invalid_source"
        # and it goes on after an error
        assert reader.call(len, "four") == 4


def test_a_table_that_is_nested_too_deep_is_said_so(tmp_path: Path) -> None:
    deep = b"[project]\nname = 'shop'\ntasks = " + b"[" * 20_000 + b"]" * 20_000
    path, out = tmp_path / "source", tmp_path / "out"
    path.write_bytes(packed(member("samovar.toml", deep)))
    out.mkdir()
    with Reader(SMALL) as reader, pytest.raises((SourceError, ConfigError)):
        reader.call(read_project, path, out, "shop", SMALL)
