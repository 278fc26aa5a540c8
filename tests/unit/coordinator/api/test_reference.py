"""docs/reference/http.md has every request and every setting, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator.settings import Settings
from tests.unit.coordinator.conftest import Api, ok

TEXT = (Path(__file__).resolve().parents[4] / "docs" / "reference" / "http.md").read_text("utf-8")


def test_every_request_is_documented(api: Api) -> None:
    paths = ok(api.admin.get("/openapi.json"))["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    documented = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /[^`?]*)`", TEXT, re.MULTILINE))
    assert documented == there


def test_every_request_of_the_fleet_is_documented(api: Api) -> None:
    app_paths = {
        path.removeprefix("/internal/v1/").rsplit("/", 1)[-1]
        for path in re.findall(r'@router\.(?:get|post)\("([^"]+)"', _fleet_sources())
    }
    section = TEXT.partition("## The fleet's side")[2]
    missing = {name for name in app_paths if not re.search(rf"[/`]{re.escape(name)}`", section)}
    assert app_paths
    assert not missing


def test_every_setting_is_documented_in_the_words_of_its_help() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", TEXT.partition("## Settings")[2], re.MULTILINE))
    assert set(rows) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert field.description is not None
        assert rows[name].replace("`", "").startswith(field.description), name


def _fleet_sources() -> str:
    folder = Path(__file__).resolve().parents[4] / "coordinator" / "api" / "fleet"
    return "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.py")))
