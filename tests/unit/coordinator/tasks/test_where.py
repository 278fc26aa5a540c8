"""`where` filters: what fits, and what is no filter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.tasks.where import matches, problems

PAYLOAD = {
    "status": "paid",
    "amount": 120,
    "customer": {"country": "DE", "tags": ["new", "eu"], "age": None},
    "items": [{"sku": "a"}, {"sku": "b"}],
    "express": True,
}


@pytest.mark.parametrize(
    "where",
    [
        None,
        {},
        {"status": "paid"},
        {"amount": 120.0},
        {"customer.country": "DE", "amount": {"gt": 100, "lte": 120}},
        {"customer.tags": ["new", "eu"]},
        {"customer.age": None},
        {"items.1.sku": "b"},
        {"express": True},
        {"amount": {"in": [1, 120]}},
        {"status": {"ne": "open"}},
        {"nothing": {"ne": "open"}},
        {"nothing": {"exists": False}},
        {"customer.age": {"exists": True}},
        {"status": {"gte": "paid", "lt": "pz"}},
    ],
)
def test_fits(where: Any) -> None:
    assert problems(where or {}) == []
    assert matches(where, PAYLOAD)


@pytest.mark.parametrize(
    "where",
    [
        {"status": "open"},
        {"status": "paid", "amount": 1},
        {"nothing": None},
        {"nothing.deeper": {"gt": 1}},
        {"express": 1},
        {"amount": True},
        {"amount": {"gt": "100"}},
        {"status": {"gt": 1}},
        {"customer.age": {"lt": 1}},
        {"customer.tags": ["eu", "new"]},
        {"items.2.sku": "b"},
        {"items.-1.sku": "b"},
        {"amount": {"in": []}},
        {"status": {"exists": False}},
        {"amount": {"gt": 100, "lt": 120}},
        {"status": {"ne": "paid"}},
    ],
)
def test_does_not_fit(where: Any) -> None:
    assert problems(where) == []
    assert not matches(where, PAYLOAD)


@pytest.mark.parametrize("payload", [None, 3, "text", [1, 2], True])
def test_a_payload_without_places_fits_nothing_but_no_filter(payload: Any) -> None:
    assert matches({}, payload)
    assert not matches({"a": 1}, payload)


@pytest.mark.parametrize(
    ("where", "place", "words"),
    [
        ([], "where", "no filter"),
        ("x", "where", "no filter"),
        ({"": 1}, "where", "no path"),
        ({"a..b": 1}, "where", "no path"),
        ({"a": {}}, "where.a", "no operator"),
        ({"amount": {"above": 3}}, "where.amount", "'above' is no operator: give one of gt, gte"),
        ({"customer": {"country": "DE"}}, "where.customer", "name its path"),
        ({"a": {"exists": 1}}, "where.a", "true or false"),
        ({"a": {"in": "abc"}}, "where.a", "a list"),
        ({"a": {"gt": None}}, "where.a", "a number or a text"),
        ({"a": {"lte": True}}, "where.a", "a number or a text"),
        ({str(n): n for n in range(51)}, "where", "50 at most"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(where: Any, place: str, words: str) -> None:
    (problem,) = problems(where)
    assert problem.path == place
    assert words in problem.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=2), inner),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_ne_is_the_opposite_of_equal_and_in_is_equal_to_one(value: Any, other: Any) -> None:
    same = matches({"a": {"in": [value]}}, {"a": other})
    assert matches({"a": {"ne": value}}, {"a": other}) is not same
    assert matches({"a": {"in": [value]}}, {"a": value})
    if not isinstance(value, dict):
        assert matches({"a": value}, {"a": other}) is same
