"""One strict wire: every text, list, number and tree of every model has its bounds, and formatting never raises."""

from __future__ import annotations

import importlib
import math
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import coordinator
import runner
import sidecar
from coordinator import wire
from coordinator.runs import views
from coordinator.tasks.index import TaskOptions, stored_options
from coordinator.wire import basics

GIB = 1024**3


def models() -> list[type[BaseModel]]:
    for part in (coordinator, runner, sidecar):
        for module in pkgutil.walk_packages(part.__path__, f"{part.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)

    def under(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from under(sub)

    ours = {
        kind for kind in under(BaseModel) if kind.__module__.split(".")[0] in ("coordinator", "runner", "sidecar")
    }
    # what an operator sets is no wire
    files = {kind for kind in ours if kind.__module__ == "runner.policy"}
    return sorted(ours - files - set(_settings()), key=lambda kind: kind.__qualname__)


def _settings() -> list[type[BaseModel]]:
    from pydantic_settings import BaseSettings

    def under(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from under(sub)

    return [*under(BaseSettings)]


def bare(annotation: Any, metadata: list[Any], place: str) -> Iterator[str]:
    """The places in an annotation that have no bounds."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = [*arguments[1:], *metadata]
        flat = [part for item in inner for part in (getattr(item, "metadata", None) or [item])]
        yield from bare(arguments[0], flat, place)
        return
    names = {
        name
        for item in metadata
        for name in ("max_length", "ge", "gt", "le", "lt", "func")
        if getattr(item, name, None) is not None
    }
    if annotation is str and "max_length" not in names:
        yield f"{place}: str"
    elif annotation in (int, float) and not (names & {"ge", "gt"} and names & {"le", "lt"}):
        yield f"{place}: {annotation.__name__}"
    elif annotation in (dict, list, Any, object) or (annotation is basics.JsonValue and "func" not in names):
        yield f"{place}: {annotation}"
    elif origin in (list, dict):
        if "max_length" not in names:
            yield f"{place}: {origin.__name__}"
        for argument in arguments:
            yield from bare(argument, [], place)
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from bare(argument, metadata, place)
    elif origin in (tuple, set, frozenset):
        for argument in arguments:
            yield from bare(argument, [], place)


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__qualname__)
def test_every_field_has_bounds(model: type[BaseModel]) -> None:
    wrong = [
        found
        for name, field in model.model_fields.items()
        for found in bare(field.annotation, list(field.metadata), f"{model.__qualname__}.{name}")
    ]
    assert not wrong


def test_the_walk_finds_what_is_bare() -> None:
    for kind in (str, int, float, dict, list, list[str], dict[str, int], str | None, list[basics.Name]):
        assert list(bare(kind, [], "x")), kind
    assert len(models()) > 70


HOSTILE = [1e300, -1e300, 1e15, 2.0**63, 10**400, -1, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_what_a_run_decides_is_clamped(value: float) -> None:
    line = wire.AttemptLogLine(seq=0, at=value, level="INFO", stream="stdout", message="")
    assert 0 <= line.at <= basics.MAX_MOMENT
    assert 0 <= (wire.Retry(after=value).after or 0) <= basics.MAX_SECONDS
    assert views.iso(line.at)


@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_what_people_send_is_refused_and_no_crash(value: float) -> None:
    for field in ("delay", "ttl", "idempotency_ttl", "memory", "priority"):
        if field == "priority" and value == -1:
            continue
        with pytest.raises(ValidationError):
            wire.TriggerRequest.model_validate({field: value if value == value else "nan"})
    with pytest.raises(ValueError, match="is not a duration"):
        basics.parse_duration("9" * 400 + "d")


@pytest.mark.parametrize("value", [*HOSTILE, 2e300, 253402300800.0], ids=str)
def test_a_stored_time_beyond_the_calendar_is_shown(value: float) -> None:
    assert len(views.iso(float(value) if value < 1e308 else math.inf)) == 24


@pytest.mark.parametrize("field", ["timeout", "total_timeout", "ttl"])
def test_numbers_of_earlier_deployments_are_clamped(field: str) -> None:
    text = f'{{"memory": {GIB}, "cpu": 1, "timeout": 60, "{field}": 1e300, "retry": {{"max_delay": 1e300}}}}'
    found = stored_options(text)
    assert getattr(found, field) == basics.MAX_SECONDS
    assert found.retry.max_delay == basics.MAX_SECONDS
    with pytest.raises(ValidationError):
        TaskOptions.model_validate_json(text)


def test_trees_are_counted() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(basics.Json)
    deep: Any = 1
    for _ in range(basics.MAX_TREE_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ValidationError, match="nested more than"):
        adapter.validate_python(deep)
    with pytest.raises(ValidationError, match="values"):
        adapter.validate_python([[0] * 1000] * 501)
    assert adapter.validate_python({"a": [1, {"b": None}]}) == {"a": [1, {"b": None}]}


def test_a_thousand_unknown_fields_are_one_problem() -> None:
    with pytest.raises(ValidationError) as raised:
        wire.TriggerRequest.model_validate({f"f{n}": n for n in range(100_000)})
    assert raised.value.error_count() == 1


@pytest.mark.parametrize(
    ("trust", "isolation", "given"),
    [("project", "inline", "inline"), ("untrusted", "inline", "process"), ("untrusted", "container", "container")],
)
def test_an_index_is_not_believed_that_untrusted_runs_share_a_process(
    trust: str, isolation: str, given: str
) -> None:
    options = {"memory": 64 << 20, "cpu": 1, "timeout": 60, "trust": trust, "isolation": isolation}
    assert TaskOptions.model_validate(options).given_isolation == given


def test_a_deployment_older_than_isolation_runs_as_it_did() -> None:
    assert TaskOptions.model_validate({"memory": 64 << 20, "cpu": 1, "timeout": 60}).given_isolation == "process"
