"""What building takes, read of a directory before its build backend misses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.ahead import LEGACY, declared, run_ahead
from images.stock import Stock, missed
from images.workshop import LENT


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject.toml": '[build-system]\nrequires = ["Setuptools>=61", "a_b"]\n'}, ["setuptools>=61", "a-b"]),
        ({"pyproject.toml": '[build-system]\nrequires = ["a[Z,b]~=1.0"]\n'}, ["a[Z,b]~=1.0"]),
        ({"pyproject.toml": '[build-system]\nrequires = []\nbackend-path = ["."]\n'}, []),
        ({"pyproject.toml": '[project]\nname = "x"\n'}, [*LEGACY]),
        ({"setup.py": ""}, [*LEGACY]),
        ({"README": ""}, []),
        # what this cannot say beforehand is missed as before
        ({"pyproject.toml": "[build-system\n", "setup.py": ""}, []),
        ({"pyproject.toml": '[build-system]\nrequires = ["a @ https://b.example/a.whl", "-r x"]\n'}, []),
        ({"pyproject.toml": '[build-system]\nrequires = ["d; python_version < \'3\'", 7, "e"]\n'}, ["e"]),
        ({"pyproject.toml": "[build-system]\nrequires = 7\n"}, []),
    ],
)  # fmt: skip
def test_what_a_directory_says_it_is_built_with(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert declared({"src/0": tmp_path, "src/1": tmp_path}) == expected


def test_nobody_has_the_host_fetch_without_end(tmp_path: Path) -> None:
    many = ", ".join(f'"p{number}"' for number in range(1000))
    (tmp_path / "pyproject.toml").write_text(f"[build-system]\nrequires = [{many}]\n")
    assert len(declared({"src/0": tmp_path})) == 20


def test_it_is_fetched_once_in_a_build_and_is_a_word_to_the_shell(tmp_path: Path) -> None:
    stock = Stock(tmp_path)
    into = f"ahead {LENT}/house --find-links {LENT}/built"
    assert run_ahead(stock, ["a>=1", "b"]) == [f"{into} 'a>=1' b"]
    assert run_ahead(stock, ["b", "c"]) == [f"{into} c"]
    assert run_ahead(stock, ["c"]) == []


@pytest.mark.parametrize("said", ["tomli>=1.1", 'tomli>=1.1; python_version < "3.12"', "tomli>=1.1 (from a)"])
def test_what_is_missed_is_missed_whatever_it_is_for(said: str) -> None:
    """pip names a requirement with its marker, which holds here, or it would not have asked."""
    assert missed([f"ERROR: No matching distribution found for {said}"]) == "tomli>=1.1"
