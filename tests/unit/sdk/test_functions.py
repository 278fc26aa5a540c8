"""What is said of functions without `inspect` is what `inspect` says."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import samovar
from samovar.payloads.signature import Signature
from samovar.values import functions
from samovar.values.functions import REQUIRED, Bound

SDK = str(Path(samovar.__file__).parent.parent)


def nothing() -> None: ...
def one(a: int) -> None: ...
def some(a: int, b: int = 2, *, c: int, d: int | None = None, **rest: int) -> None: ...
def ordered(a: int, b: int = 2, /, c: int = 3, *more: int, d: int) -> None: ...
def placed(a: int, b: int = 2, /, c: int = 3, *, d: int) -> None: ...


def local_names(a: int) -> int:
    b = a
    return b


async def later(a: int = 1) -> None: ...
def yields() -> Any:
    yield 1


async def yields_later() -> Any:
    yield 1


@types.coroutine
def old() -> Any:
    yield 1


class Called:
    async def __call__(self, a: int, b: int = 3) -> None: ...
    def method(self, a: int, *, b: int = 1) -> None: ...
    async def later(self) -> None: ...


@functools.wraps(some)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


def signed(*args: Any) -> None: ...


signed.__signature__ = inspect.signature(one)  # type: ignore[attr-defined]

FUNCTIONS: list[Callable[..., Any]] = [
    *(nothing, one, some, ordered, local_names, later, yields, yields_later, old, wrapped, signed),
    *(Called().method, Called().later, Called(), functools.partial(some, 1), functools.partial(later), len),
    functools.partial(functools.partial(Called().later)),
    lambda x, y=1: x,
]  # fmt: skip


def named(function: Any) -> str:
    return f"{getattr(function, '__qualname__', type(function).__name__)}"


@pytest.mark.parametrize("function", FUNCTIONS, ids=named)
def test_parameters_are_those_that_inspect_finds(function: Callable[..., Any]) -> None:
    found = [(each.name, each.kind, each.default) for each in functions.parameters(function)]
    told = inspect.signature(function).parameters.values()
    assert found == [(p.name, p.kind, REQUIRED if p.default is p.empty else p.default) for p in told]


@pytest.mark.parametrize("function", [*FUNCTIONS, 3, None, int], ids=named)
def test_kinds_of_functions_are_those_that_inspect_finds(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    is_async = inspect.iscoroutinefunction(function)
    assert functions.makes_coroutine(function) == is_async
    monkeypatch.delitem(sys.modules, "inspect")
    assert functions.makes_coroutine(function) == is_async
    assert functions.is_generator(function) == yields


def test_what_is_awaited_is_what_inspect_finds() -> None:
    coroutine, generator = later(), old()
    for value in (coroutine, generator, yields(), Called(), 1, None):
        assert functions.is_awaitable(value) == inspect.isawaitable(value)
        assert functions.is_coroutine(value) == inspect.iscoroutine(value)
    coroutine.close()  # type: ignore[attr-defined]


def test_decorators_that_go_round_are_refused() -> None:
    def first() -> None: ...
    def second() -> None: ...

    first.__wrapped__, second.__wrapped__ = second, first  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="loop"):
        functions.unwrap(first)


@pytest.mark.parametrize(
    ("function", "payload"),
    [
        (nothing, {}),
        (one, {"a": 1}),
        (some, {"a": 1, "c": 3}),
        (some, {"a": 1, "b": 5, "c": 3, "d": 4, "x": 9}),
        (some, {"c": 3, "a": 1, "rest": 7}),
        (placed, {"a": 1, "d": 2}),
        (placed, {"a": 1, "c": 4, "d": 2}),
        (wrapped, {"a": 1, "c": 3, "y": 2}),
        (lambda x=1, y=2, z=3: (x, y, z), {"z": 4}),
        (lambda x=1, y=2, z=3: (x, y, z), {"y": 5, "x": 4}),
    ],
)
def test_arguments_are_bound_as_inspect_binds_them(function: Callable[..., Any], payload: dict[str, Any]) -> None:
    """Those that may be either are given by their place until one is left out: a decorator may look at args[0]."""
    signature = inspect.signature(function)
    only = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    named = {name: value for name, value in payload.items() if name not in {p.name for p in only}}
    told = signature.bind(*(payload.get(p.name, p.default) for p in only), **named)
    assert Signature("t", function).bind(payload) == Bound(told.args, told.kwargs)


@pytest.mark.parametrize("declared", ["def f(): ...", "def f(a: int, b: str = 'x', *, c: list[int] = []): ..."])
def test_a_task_of_plain_parameters_is_called_without_inspect(declared: str) -> None:
    """It is a megabyte of each container, and what it imports."""
    code = [
        "from samovar import checkpoint, task",
        "from samovar.payloads.binding import bind, prepare",
        declared,
        "made = task(id='f')(f)",
        "prepare(made)",
        "bound = bind(made, {'a': 1} if f.__code__.co_argcount else {})",
        "made.function(*bound.args, **bound.kwargs)",
        "checkpoint('a', lambda: 1)",
        "checkpoint.step(f)",
        "print(sorted({'inspect', 'ast', 'dis', 'dataclasses'} & set(sys.modules)))",
    ]
    program = "\n".join([f"import sys; sys.path.append({SDK!r})", *code])
    command = [sys.executable, "-I", "-S", "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("kind", "loaded"),
    [
        ("File", []),
        ("datetime.date", ["datetime"]),
        ("decimal.Decimal", ["decimal", "numbers"]),
        ("uuid.UUID", ["platform", "uuid"]),
        ("pathlib.Path", ["fnmatch", "ipaddress", "pathlib"]),
    ],
)
def test_a_task_loads_what_its_own_types_are_of_and_nothing_else(kind: str, loaded: list[str]) -> None:
    """Each module is read in a start and held by a container, and a file system of containers reads slowly."""
    wanted = [
        "datetime", "decimal", "fnmatch", "ipaddress", "mimetypes", "numbers", "pathlib", "platform", "shutil",
        "logging", "random", "tempfile", "uuid",
    ]  # fmt: skip
    module = kind.rpartition(".")[0]
    code = [
        "from samovar import File, artifact, checkpoint, on_exit, secret, task, wait",
        "from samovar.payloads.binding import prepare",
        f"import {module or 'sys'}",
        f"def f(a: {kind}, b: str = 'x', *, c: list[int] | None = None): ...",
        "prepare(task(id='f')(f))",
        f"print(*sorted(set({wanted!r}) & set(sys.modules)))",
    ]
    program = "\n".join([f"import sys; sys.path.append({SDK!r})", *code])
    command = [sys.executable, "-I", "-S", "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    # (what pathlib takes is another Python's own affair)
    assert set(said.stdout.split()) <= set(loaded)
    assert not module or module in said.stdout.split()
