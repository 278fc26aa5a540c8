"""Schemas that would take for ever, or that the SDK never writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordinator.foundation import again
from coordinator.foundation.errors import Invalid
from coordinator.tasks import checking, patterns, vocabulary
from coordinator.tasks.payloads import Payloads

#: 2^depth ways through it, none of which fits.
BRANCHING: dict[str, Any] = {
    "$defs": {
        "n": {
            "anyOf": [
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a", "x"]},
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a", "y"]},
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a", "z"]},
            ]
        }
    },
    "properties": {"p": {"$ref": "#/$defs/n"}},
}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def problems(schema: dict[str, Any], payload: dict[str, Any]) -> list[str]:
    try:
        Payloads().check("d", "t", json.dumps(schema), payload)
    except Invalid as error:
        return [f"{field.path}: {field.message}" for field in error.fields]
    return []


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "^(a?){30}a{30}$"]
)
def test_a_pattern_that_backtracks_takes_linear_time(pattern: str) -> None:
    assert vocabulary.problem({"properties": {"x": {"type": "string", "pattern": pattern}}}) is None
    problems({"properties": {"x": {"pattern": pattern}}}, {"x": "a" * 5000 + "!"})
    problems({"properties": {"x": {"pattern": pattern}}}, {"x": "x" * 5000 + "!"})


@pytest.mark.parametrize(
    "pattern",
    ["((a{100}){100}){100}", r"\w{500}", "(?=a)b", r"(a)\1", "[[:a:]]", "a{,5}", "a" * 3000, "(" * 60],
)
def test_what_the_engine_is_not_trusted_with_is_left_to_the_run(pattern: str) -> None:
    assert patterns.weigh(pattern) is None
    assert patterns.fits(pattern, "anything")


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("^[a-z]+$", "abc\n", True),
        ("^[a-z]+$", "abc\n\n", False),
        ("b", "abc", True),
        (r"^\d{4}-\d{2}$", "2024-01", True),
        (r"^\d{4}-\d{2}$", "2024-1", False),
        ("^[^/]+$", "a/b", False),
        ("^(?:a|b)*$", "abab", True),
    ],
)
def test_patterns_mean_what_they_mean_in_python(pattern: str, text: str, fits: bool) -> None:
    assert patterns.weigh(pattern) is not None
    assert patterns.fits(pattern, text) is fits


def test_branches_without_end_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "DEADLINE", 0.5)
    assert vocabulary.problem(BRANCHING) is None
    (problem,) = problems(BRANCHING, {"p": nested(60)})
    assert problem.startswith("payload: can't be checked against the task's schema within")


def test_a_check_that_takes_long_is_not_made_in_a_transaction() -> None:
    schema, payload = json.dumps({"properties": {"x": {"items": {"type": "integer"}}}}), {"x": [1] * 40_000}
    with again.transaction(), pytest.raises(again.Again) as raised:
        Payloads().check("d", "t", schema, payload)
    for job in raised.value.jobs:
        job.work()
    with again.transaction():
        Payloads().check("d", "t", schema, payload)  # found out by now


def test_a_process_that_is_killed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "DEADLINE", 0.3)
    assert problems(BRANCHING, {"p": nested(61)})
    monkeypatch.setattr(checking, "DEADLINE", 20.0)
    found = problems({"properties": {"x": {"items": {"type": "integer"}}}}, {"x": [*[1] * 40_000, "a"]})
    assert found == ["x[40000]: 'a' is not an integer"]


@pytest.mark.parametrize("keyword", [{"items": {"type": "integer"}}, {"additionalProperties": False}])
def test_fifty_problems_are_enough(keyword: dict[str, Any]) -> None:
    value: Any = ["a"] * 2000 if "items" in keyword else {f"n{n}": 1 for n in range(2000)}
    assert len(problems({"properties": {"x": keyword}}, {"x": value})) == 50


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"patternProperties": {"(a+)+$": {}}}, "#/patternProperties"),
        ({"properties": {"x": {"uniqueItems": True}}}, "#/properties/x/uniqueItems"),
        ({"properties": {"x": {"contains": {}}}}, "#/properties/x/contains"),
        ({"dependentSchemas": {}}, "#/dependentSchemas"),
        ({"unevaluatedProperties": False}, "#/unevaluatedProperties"),
        ({"$dynamicRef": "#x"}, "#/$dynamicRef"),
        ({"$id": "http://x/"}, "#/$id"),
        ({"$ref": "http://169.254.169.254/"}, "#/$ref"),
        ({"$ref": "#/properties/x"}, "#/$ref"),
        ({"$ref": "#/$defs/none"}, "#/$defs/none"),
        ({"$ref": "#"}, "comes back to itself"),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}, "comes back"),
        ({"format": "regex"}, "#/format"),
        ({"multipleOf": 0}, "#/multipleOf"),
        ({"multipleOf": float("inf")}, "#/multipleOf"),
        ({"multipleOf": 10**4000}, "#/multipleOf"),
        ({"minimum": float("nan")}, "#/minimum"),
        ({"maxLength": 10**400}, "#/maxLength"),
        ({"minItems": -1}, "#/minItems"),
        ({"type": "whatever"}, "#/type"),
        ({"type": []}, "#/type"),
        ({"required": "x"}, "#/required"),
        ({"properties": []}, "#/properties"),
        ({"enum": list(range(5001))}, "#/enum"),
        ({"enum": []}, "#/enum"),
        ({"anyOf": [{}] * 501}, "#/anyOf"),
        ({"pattern": "a" * 5000}, "#/pattern"),
        ({"description": "a" * 50_000}, "#/description"),
        ({"default": float("inf")}, "#/default"),
        ({"default": nested(100)}, "nested more than"),
        ({"items": 1}, "#/items"),
        ({"properties": {f"p{n}": {"enum": list(range(1500))} for n in range(20)}}, "more than 20000 nodes"),
        ({"x-samovar-reads": {"type": "enum", "values": list(range(6000))}}, "#/x-samovar-reads"),
        ({"x-samovar-reads": []}, "#/x-samovar-reads"),
    ],
)
def test_what_the_sdk_never_writes_is_refused_with_its_place(schema: dict[str, Any], place: str) -> None:
    found = vocabulary.problem(schema)
    assert found is not None
    assert place in found
    assert "deploy with the samovar SDK" in found


def test_deep_schemas_are_refused_and_not_followed() -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    assert "nested more than 64 deep" in str(vocabulary.problem(schema))


@pytest.mark.parametrize("value", [10**4200, 1e308, -1e308, 5e-324, 10**400])
@pytest.mark.parametrize("divisor", [1e-300, 3, 0.1, 5e-324])
def test_numbers_beyond_a_float_are_no_crash(value: float, divisor: float) -> None:
    problems({"properties": {"x": {"multipleOf": divisor, "minimum": 1.5, "type": "number"}}}, {"x": value})
    rule = {"x-samovar-reads": {"type": "decimal", "multiple_of": "3"}}
    problems({"properties": {"x": rule}}, {"x": "1e999999"})


def test_words_of_older_deployments_say_nothing_here() -> None:
    schema = {
        "properties": {"x": {"uniqueItems": True, "patternProperties": {"(a+)+$": False}, "$dynamicRef": "#q"}}
    }
    assert problems(schema, {"x": [1, 1]}) == []
    assert problems({"properties": {"x": {"$ref": "http://nowhere/"}}}, {"x": 1}) == []


def test_small_payloads_of_harmless_schemas_are_checked_where_they_are() -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False})
    payloads = Payloads()
    with again.transaction():
        for n in range(200):
            payloads.check("d", "t", schema, {"n": n})
