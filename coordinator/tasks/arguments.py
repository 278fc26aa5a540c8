"""What a caller other than a trigger gives a task: those of its values that the task declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.wire import FieldProblem


def declared(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a task with this schema has parameters for; all, where it takes any."""
    if schema.get("additionalProperties", True) is not False:
        return dict(values)
    return {name: value for name, value in values.items() if name in schema.get("properties", {})}


def unfilled(path: str, schema: Mapping[str, Any], given: tuple[str, ...], caller: str) -> list[FieldProblem]:
    """Why a caller that gives values of these names could not make runs: parameters that nothing fills."""
    names = [name for name in schema.get("required", []) if name not in given]
    known = " and ".join(filter(None, (", ".join(given[:-1]), given[-1])))
    return [
        FieldProblem(
            path=path,
            message=f"nothing fills the parameter {name!r} of a run made by {caller}: give it a default; "
            f"{caller} gives {known}",
        )
        for name in names
    ]
