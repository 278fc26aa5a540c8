"""Every setting is documented, in the words of the code; `python -m tests.unit.test_docs` writes the page anew."""

from __future__ import annotations

from pathlib import Path

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from coordinator.settings import Settings as CoordinatorSettings
from runner.settings import Settings as RunnerSettings
from sidecar.settings import Settings as SidecarSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"

HEAD = """# Settings

<!-- Written by `python -m tests.unit.test_docs`; a test compares it with the code. -->

Each process takes its settings from the environment, or as flags of `python -m coordinator`, `python -m runner` and
`python -m sidecar` (`SAMOVAR_RUNNER_MAX_WARM` is `--max-warm`). `samovar up` sets what the three need to find each
other, and passes on what stands in its own environment. Durations are seconds or text such as `90s`; memory is
bytes or `512m`.
"""
PARTS: dict[str, type[BaseSettings]] = {
    "coordinator": CoordinatorSettings,
    "runner": RunnerSettings,
    "sidecar": SidecarSettings,
}


def _number(value: float) -> str:
    return f"{value / 86400:g}d" if value and value % 86400 == 0 else f"{value:g}"


def page() -> str:
    lines = [HEAD]
    for part, model in PARTS.items():
        lines += [f"## {part}", "", "| variable | meaning | default |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            shown = "required" if field.is_required() else ""
            if field.default is not PydanticUndefined and field.default is not None:
                shown = f"`{_number(field.default)}`" if isinstance(field.default, float) else f"`{field.default}`"
            variable = f"{model.model_config['env_prefix']}{name}".upper()
            lines.append(f"| `{variable}` | {field.description} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def test_every_setting_says_what_it_is() -> None:
    for part, model in PARTS.items():
        for name, field in model.model_fields.items():
            assert field.description, f"{part}: {name}"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text("utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
