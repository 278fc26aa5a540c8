"""The documentation says what the commands and the configuration are."""

from __future__ import annotations

import re
from pathlib import Path

from samovar.cli.reference import render

from images.config import TASK_OPTIONS, ProjectTable

DOCS = Path(__file__).parents[3] / "docs"


def test_the_reference_of_the_command_line_is_the_commands() -> None:
    written = (DOCS / "reference/cli.md").read_text()
    assert written == render(), "run: python -m samovar.cli.reference > docs/reference/cli.md"


def test_every_key_of_samovar_toml_is_documented() -> None:
    text = (DOCS / "reference/samovar-toml.md").read_text()
    project, _, defaults = text.partition("## `[defaults]`")
    assert set(re.findall(r"^\| `(\w+)` \|", project, re.MULTILINE)) == set(ProjectTable.model_fields)
    assert all(f"`{option}`" in defaults for option in TASK_OPTIONS)
