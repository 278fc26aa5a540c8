"""Values of numpy and pandas in results and checkpoints, and models with aliases."""

from __future__ import annotations

import datetime
import enum
import json
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from samovar import NotSerializable, task
from samovar.payloads import codec

SCALARS: list[tuple[Any, Any]] = [
    (np.int8(-3), -3),
    (np.int64(2**40), 2**40),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float16(0.5), 0.5),
    (np.float32(0.25), 0.25),
    (np.float64(0.1), 0.1),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
    (np.array(7), 7),
    (np.int64(1) == np.int64(1), True),
    (pd.Series([1, 2]).sum(), 3),
    (pd.Series([1.0, 2.0]).mean(), 1.5),
    (pd.DataFrame({"a": [1]}).loc[0, "a"], 1),
    (pd.NA, None),
    (pd.NaT, None),
    (np.datetime64("NaT"), None),
    (np.timedelta64("NaT"), None),
]
LEAP_DAY = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
DATES: list[tuple[Any, str | float, Any]] = [
    (pd.Timestamp("2024-02-29 12:30"), "2024-02-29T12:30:00", datetime.datetime(2024, 2, 29, 12, 30)),
    (
        pd.Timestamp("2024-02-29", tz="UTC"),
        "2024-02-29T00:00:00+00:00",
        datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
    ),
    (np.datetime64("2024-02-29"), "2024-02-29", datetime.date(2024, 2, 29)),
    (np.datetime64("2024-02-29T12:30:00"), "2024-02-29T12:30:00", datetime.datetime(2024, 2, 29, 12, 30)),
    (pd.Timedelta("90s"), 90.0, datetime.timedelta(seconds=90)),
    (np.timedelta64(1500, "ms"), 1.5, datetime.timedelta(seconds=1.5)),
]


@pytest.mark.parametrize(("value", "wanted"), SCALARS, ids=lambda value: f"{type(value).__name__} {value}")
def test_a_scalar_is_the_number_it_holds(value: Any, wanted: Any) -> None:
    made = codec.plain({"deep": [value]})["deep"][0]
    assert made == wanted
    assert type(made) is type(wanted)
    assert json.loads(json.dumps(made)) == wanted
    back = codec.decode(codec.encode(value, "key"), "key")
    assert back == wanted
    assert type(back) is type(wanted)


@pytest.mark.parametrize(("value", "text", "back"), DATES, ids=lambda value: f"{type(value).__name__} {value}")
def test_a_date_is_iso_text_in_a_result_and_a_date_again_in_a_checkpoint(value: Any, text: Any, back: Any) -> None:
    assert codec.plain(value) == text
    decoded = codec.decode(json.loads(json.dumps(codec.encode(value, "key"))), "key")
    assert decoded == back
    assert type(decoded) is type(back)


def test_nanoseconds_stay_in_results() -> None:
    assert codec.plain(np.datetime64("2024-02-29T12:30:00.123456789")) == "2024-02-29T12:30:00.123456789"
    assert codec.plain(pd.Timestamp("2024-02-29T12:30:00.123456789")) == "2024-02-29T12:30:00.123456789"
    moment = datetime.datetime(2024, 2, 29, 12, 30, 0, 123456)
    assert codec.decode(codec.encode(pd.Timestamp("2024-02-29T12:30:00.123456789"), "k"), "k") == moment


def test_an_array_is_a_list_in_a_result_and_refused_in_a_checkpoint() -> None:
    assert codec.plain(np.arange(6).reshape(2, 3)) == [[0, 1, 2], [3, 4, 5]]
    assert codec.plain({"x": np.array(["a", "b"])}) == {"x": ["a", "b"]}
    assert codec.plain(np.array(["2024-01-01"], dtype="datetime64[D]")) == ["2024-01-01"]
    assert codec.plain(np.array([])) == []
    with pytest.raises(NotSerializable, match=r"key: .*ndarray can't be stored; convert it with .tolist\(\)"):
        codec.encode(np.arange(3), "key")
    with pytest.raises(NotSerializable, match="more than the"):
        codec.plain(np.zeros(10**8, dtype=np.int8))


@pytest.mark.parametrize("value", [np.float64("nan"), np.float32("inf"), np.array([1.0, np.nan])], ids=str)
def test_what_is_not_finite_is_refused_as_ever(value: Any) -> None:
    with pytest.raises(NotSerializable, match="not finite"):
        codec.plain(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [(pd.DataFrame({"a": [1]}), "to_dict"), (np.complex128(1j), "complex128"), (np.void(b"x"), "void")],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_json_is_refused_with_the_way(value: Any, words: str) -> None:
    with pytest.raises(NotSerializable, match=words):
        codec.plain(value)


def test_results_of_a_task_may_hold_them() -> None:
    @task(id="numbers-of-libraries")
    def numbers() -> dict[str, Any]:
        frame = pd.DataFrame({"price": [1.5, 2.5], "n": [1, 2]})
        return {"total": frame["n"].sum(), "mean": frame["price"].mean(), "rows": frame.to_dict("records")}

    result = codec.plain(numbers.local())
    assert result == {"total": 3, "mean": 2.0, "rows": [{"price": 1.5, "n": 1}, {"price": 2.5, "n": 2}]}


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    order_id: int = pydantic.Field(alias="orderId")
    placed: datetime.date


class Thing(enum.Enum):
    A = object()
    B = datetime.date(2024, 1, 1)


def test_a_model_with_aliases_is_a_payload_and_comes_back_from_a_checkpoint() -> None:
    order = Order.model_validate_json('{"orderId": 1, "placed": "2024-01-01"}')

    @task(id="takes-an-order")
    def take(order: Order) -> int:
        return order.order_id

    assert take.local(order=order) == 1
    assert codec.plain(order) == {"orderId": 1, "placed": "2024-01-01"}
    assert codec.decode(codec.encode(order, "key"), "key") == order


def test_an_enum_of_any_value_can_be_returned() -> None:
    assert codec.plain([Thing.A, Thing.B]) == ["A", "2024-01-01"]
