"""Fields of a payload labelled by the schema of their task."""

from __future__ import annotations

import re
from typing import Any

import pytest

from coordinator.dashboard.formats import tree
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api
from tests.unit.coordinator.dashboard.test_site import browser

ADDRESS = {
    "type": "object",
    "title": "Address",
    "properties": {"street": {"type": "string", "description": "With its number"}, "zip": {"type": "string"}},
}


def labels(value: Any, schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Of each field its name, its label and what it is for."""
    found = re.findall(
        r'<li><b(?: title="([^"]*)")?>([^<]*)</b>(?: <span class="dim">([^<]*)</span>)?', tree(value, schema)
    )
    return [(name, label, words) for words, name, label in found]


@pytest.mark.parametrize(
    ("schema", "value", "label"),
    [
        ({"type": "integer"}, 1, "integer"),
        ({"type": "string", "format": "date-time"}, "x", "date-time"),
        ({"type": "number", "title": "Price"}, 1.5, "Price, number"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, "integer or null"),
        ({"type": ["string", "null"]}, "x", "string or null"),
        ({"enum": ["a", "b"]}, "a", "one of 2"),
        ({"const": 1}, 1, "constant"),
        ({"type": "array", "items": {"type": "string"}}, ["a"], "array of string"),
        ({}, 1, ""),
        (True, 1, ""),
        (None, 1, ""),
    ],
)
def test_a_field_says_what_it_holds(schema: Any, value: Any, label: str) -> None:
    assert labels({"x": value}, {"properties": {"x": schema}})[0] == ("x", label, "")


def test_what_lies_deeper_is_labelled_too() -> None:
    schema = {
        "$defs": {"Address": ADDRESS},
        "properties": {
            "home": {"$ref": "#/$defs/Address", "description": "Where to"},
            "others": {"type": "array", "items": {"$ref": "#/$defs/Address"}},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    }
    value = {"home": {"street": "Main 1"}, "others": [{"zip": "1"}], "pair": [1, "a"], "counts": {"k": 2}}
    assert labels(value, schema) == [
        ("home", "Address, object", "Where to"),
        ("street", "string", "With its number"),
        ("others", "array of object", ""),
        ("0", "Address, object", ""),
        ("zip", "string", ""),
        ("pair", "array", ""),
        ("0", "integer", ""),
        ("1", "string", ""),
        ("counts", "object", ""),
        ("k", "integer", ""),
    ]


def test_of_a_union_the_part_is_taken_that_the_value_keeps_to() -> None:
    card = {"type": "object", "properties": {"number": {"type": "string"}}}
    bank = {"type": "object", "properties": {"iban": {"type": "string", "description": "Of the account"}}}
    schema = {"properties": {"by": {"anyOf": [card, bank, {"type": "null"}]}}}
    assert labels({"by": {"iban": "x"}}, schema)[1] == ("iban", "string", "Of the account")
    assert labels({"by": None}, schema) == [("by", "object or null", "")]
    assert labels({"by": True}, {"properties": {"by": {"anyOf": [{"type": "integer"}]}}}) == [("by", "integer", "")]


def test_no_schema_brings_a_page_down() -> None:
    """Those of today are checked when they are deployed; those that stand there may be older."""
    circle = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}
    grows = {
        "$defs": {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}},
        "properties": {"x": {"$ref": "#/$defs/L"}},
    }
    assert labels({"x": 1}, circle) == [("x", "", "")]
    assert labels({"x": [[[1]]]}, grows)[0][1].startswith("array of array")
    hostile = {"properties": {"x": {"title": "<script>", "description": '"><b>', "type": "\u202estring"}}}
    made = tree({"x": 1}, hostile)
    assert "<script>" not in made
    assert '"><b>' not in made
    assert "\u202e" not in made


def test_a_run_s_payload_is_labelled_by_its_own_version(api: Api) -> None:
    def declared(words: str) -> dict[str, Any]:
        name = {"type": "string", "description": words}
        return task_entry("greet", schema={"type": "object", "properties": {"name": name}})

    api.deploy(declared("who was greeted once"))
    old = api.trigger(payload={"name": "a"})["id"]
    api.deploy(declared("who is greeted now"))
    new = api.trigger(payload={"name": "b"})["id"]
    with browser(api) as client:
        assert (
            '<b title="who was greeted once">name</b> <span class="dim">string</span>'
            in client.get(f"/runs/{old}").text
        )
        assert '<b title="who is greeted now">name</b>' in client.get(f"/runs/{new}").text


def test_a_task_is_asked_for_as_one_of_its_versions_declares_it(api: Api) -> None:
    first = api.deploy(task_entry("greet") | {"doc": "once"})
    api.deploy(task_entry("greet") | {"doc": "now"})
    wanted = {"task": "orders/greet", "version": first["version"]}
    tasks = api.admin.get("/api/v1/tasks", params=wanted).json()["items"]
    assert [(one["version"], one["doc"]) for one in tasks] == [(first["version"], "once")]
    assert api.admin.get("/api/v1/tasks", params={"task": "orders/greet"}).json()["items"][0]["doc"] == "now"
    none = api.admin.get("/api/v1/tasks", params={"task": "orders/greet", "version": "20200101.1"}).json()
    assert none["items"] == []
    for wrong in ({}, {"task": "greet"}, {"project": "orders"}):
        answer = api.admin.get("/api/v1/tasks", params={"version": first["version"], **wrong})
        assert answer.status_code == 422
        assert "task=project/task" in answer.text
