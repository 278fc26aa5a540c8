"""Which modules make importing a project slow."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from samovar.environment import import_times

from tests.unit.sdk.test_index import index


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Three modules that take 1, 2 and 4 seconds: `outer` imports a package, whose part imports `deep`."""
    clock = Clock()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "ticking", clock, raising=False)
    (tmp_path / "wide_package").mkdir()
    (tmp_path / "times_outer.py").write_text(
        "import sys; sys.ticking.now += 1\nimport wide_package.part\nimport json\n"
    )
    (tmp_path / "wide_package" / "__init__.py").write_text("import sys; sys.ticking.now += 1.5\n")
    (tmp_path / "wide_package" / "part.py").write_text("import sys; sys.ticking.now += 0.5\nimport times_deep\n")
    (tmp_path / "times_deep.py").write_text("import sys; sys.ticking.now += 4\n")
    return clock


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("times_outer", "wide_package", "wide_package.part", "times_deep", "times_raises"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_each_package_has_its_own_time(made: Clock) -> None:
    before = list(sys.meta_path)
    times = import_times.Times(made)
    sys.meta_path.insert(0, times)
    try:
        importlib.import_module("times_outer")
    finally:
        sys.meta_path.remove(times)
    assert times.seconds == {"times_outer": 1, "wide_package": 2, "times_deep": 4}
    assert times.total == 7
    assert sys.meta_path == before


def test_it_is_measured_where_an_import_fails(made: Clock, tmp_path: Path) -> None:
    (tmp_path / "times_raises.py").write_text("import times_deep\nraise ValueError('no')\n")
    times = import_times.Times(made)
    sys.meta_path.insert(0, times)
    try:
        with pytest.raises(ValueError, match="no"):
            importlib.import_module("times_raises")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("times_nowhere")
    finally:
        sys.meta_path.remove(times)
    assert times.seconds == {"times_raises": 0, "times_deep": 4}


def test_only_what_is_slow_is_named() -> None:
    times = import_times.Times()
    times.seconds = {"numpy": 0.5, "job": 0.4}
    assert import_times.notice(times) is None
    times.seconds |= {"pandas": 1.06, "small": 0.05, **{f"part{number}": 0.2 for number in range(5)}}
    said = import_times.notice(times) or ""
    assert "took 3.0 s" in said
    assert "pandas 1.1 s, numpy 0.5 s, job 0.4 s, part0 0.2 s, part1 0.2 s;" in said


def test_the_index_has_it_as_a_notice(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("import time\ntime.sleep(1.1)\n")
    code, document, _ = index(tmp_path, "import heavy\nfrom samovar import task\n@task\ndef one(): ...\n")
    assert code == 0
    (said,) = document["notices"]
    assert "heavy 1.1 s" in said
    code, document, _ = index(tmp_path, "from samovar import task\n@task\ndef one(): ...\n")
    assert (code, document["notices"]) == (0, [])
