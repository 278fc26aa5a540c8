"""What can be said of a function without `inspect`, which takes a megabyte of every container with a dozen modules.

Where `inspect` is there anyway, since the project's own modules have imported it, and where a function is no plain
one, it is asked: what it says is what counts.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Awaitable
from typing import Any, NamedTuple

#: Kinds of parameters, as inspect numbers them.
POSITIONAL_ONLY, EITHER, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = range(5)
#: Flags of byte code (inspect.CO_…).
_VARARGS, _VARKEYWORDS, _GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 4, 8, 32, 128, 256, 512


class _Required:
    """In place of a default, where there is none."""

    def __repr__(self) -> str:
        return "no default"


REQUIRED = _Required()


class Parameter(NamedTuple):
    name: str
    kind: int
    default: Any

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


class Bound(NamedTuple):
    """The arguments of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def unwrap(function: Any) -> Any:
    """What decorators have wrapped (functools.wraps). Raises ValueError where that goes round."""
    seen = {id(function)}
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
        if id(function) in seen:
            raise ValueError(f"wrapper loop when unwrapping {function!r}")
        seen.add(id(function))
    return function


def is_coroutine(value: Any) -> bool:
    return isinstance(value, types.CoroutineType)


def is_awaitable(value: Any) -> bool:
    if isinstance(value, types.GeneratorType):  # of types.coroutine
        return bool(value.gi_code.co_flags & _ITERABLE_COROUTINE)
    return isinstance(value, (types.CoroutineType, Awaitable))


def makes_coroutine(function: Any) -> bool:
    """Whether calling it gives a coroutine. A function can be marked to, which takes inspect."""
    if (inspect := sys.modules.get("inspect")) is not None:
        return bool(inspect.iscoroutinefunction(function))
    return bool(_flags(function) & _COROUTINE)


def is_generator(function: Any) -> bool:
    """Whether it yields, be it `async` or not."""
    return bool(_flags(function) & (_GENERATOR | _ASYNC_GENERATOR))


def parameters(function: Any) -> list[Parameter]:
    """Raises ValueError and TypeError as inspect.signature does, for what has none that can be known."""
    if not _is_plain(function):
        import inspect

        return [
            Parameter(each.name, int(each.kind), REQUIRED if each.default is each.empty else each.default)
            for each in inspect.signature(function).parameters.values()
        ]
    code = function.__code__
    names = list(code.co_varnames)
    positional, keywords = code.co_argcount, code.co_kwonlyargcount
    defaults = function.__defaults__ or ()
    first = positional - len(defaults)
    found = [
        Parameter(
            name,
            POSITIONAL_ONLY if number < code.co_posonlyargcount else EITHER,
            REQUIRED if number < first else defaults[number - first],
        )
        for number, name in enumerate(names[:positional])
    ]
    after = positional + keywords
    if code.co_flags & _VARARGS:
        found.append(Parameter(names[after], VAR_POSITIONAL, REQUIRED))
        after += 1
    given = function.__kwdefaults__ or {}
    for name in names[positional : positional + keywords]:
        found.append(Parameter(name, KEYWORD_ONLY, given.get(name, REQUIRED)))
    if code.co_flags & _VARKEYWORDS:
        found.append(Parameter(names[after], VAR_KEYWORD, REQUIRED))
    return found


def takes_nothing(function: Any) -> bool:
    """Whether it is known to have no parameter at all."""
    return _is_plain(function) and not parameters(function)


def bind(found: list[Parameter], values: dict[str, Any]) -> Bound:
    """`values`, of which each is a parameter's or, by its name, one of `**rest`: in the order of the parameters as
    far as none is left out, since a decorator may look at its first arguments.
    """
    left, args, kwargs, gap = dict(values), [], {}, False
    for name, kind, default in found:
        if kind == POSITIONAL_ONLY:
            # a gap before a given argument can only be filled with the parameter's default
            args.append(left.pop(name, default))
        elif name not in left or kind == VAR_KEYWORD:
            gap = True
        elif gap or kind == KEYWORD_ONLY:
            kwargs[name] = left.pop(name)
        else:
            args.append(left.pop(name))
    return Bound(tuple(args), {**kwargs, **left})


def _is_plain(function: Any) -> bool:
    return (
        type(function) is types.FunctionType
        and not hasattr(function, "__wrapped__")
        and not hasattr(function, "__signature__")
    )


def _flags(function: Any) -> int:
    """Of the code that runs when it is called: of what functools.partial and methods stand for."""
    while True:
        if isinstance(function, types.MethodType):
            function = function.__func__
        elif type(function).__name__ == "partial" and hasattr(function, "func"):
            function = function.func
        else:
            break
    return int(getattr(getattr(function, "__code__", None), "co_flags", 0))
