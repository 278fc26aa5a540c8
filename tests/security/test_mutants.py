"""Each mutant can still be put into the tree, and its tests are there; `make isolation-mutants` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.controls import MUTANTS
from tests.security.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_a_mutant_fits(mutant: Mutant, tmp_path: Path) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text(text, "utf-8")
    mutant.put_into(tmp_path)
    assert copy.read_text("utf-8") != text
    assert mutant.tests
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), test
