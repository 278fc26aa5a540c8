"""`checkpoint`: a named, durable result inside a run.

    order = checkpoint("fetch", fetch_order, order_id)      # once stored, never run again in this run
    page = await checkpoint("page", download, url)          # a coroutine function gives an awaitable
    limit = checkpoint("limit", 20)                         # a value

What comes back is always decode(encode(value)), the first time as on replay, so that code can't come to
depend on what a later attempt will not see. A key is known once in a run: a second use of it, from wherever,
gives the stored value. Outside of a run the function is called and nothing is kept.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Callable, TypeVar, overload

from samovar.errors import OptionError
from samovar.payloads import codec
from samovar.running.keys import check_key, describe, mixed
from samovar.running.run import CurrentRun, find_run
from samovar.values.functions import is_awaitable, is_coroutine, makes_coroutine

F = TypeVar("F", bound=Callable[..., Any])

#: The attribute of a step that says its key, or the format string of it.
STEP_KEY = "__samovar_step__"


class CheckpointFunction:
    """The type of `checkpoint`."""

    def __call__(self, key: str, value_or_function: Any, *args: Any, **kwargs: Any) -> Any:
        """The stored value of `key` in this run; else the given value, or what the function returns, stored.

        An awaitable of it where the function is a coroutine function. Raises OptionError (key),
        NotSerializable (value), CheckpointError (it could not be stored), and what the function raises.
        """
        check_key(key)
        given = value_or_function
        if is_coroutine(given):
            given.close()
            raise OptionError(
                f"checkpoint({key!r}): give the function, checkpoint(key, fn, *args), not a coroutine"
            )
        if is_async(given):
            return _run_async(key, given, args, kwargs)
        if not callable(given) and (args or kwargs):
            raise OptionError(f"checkpoint({key!r}): arguments for {given!r}, which is no function")
        return _run(key, given, args, kwargs)

    @overload
    def step(self, function: F) -> F: ...

    @overload
    def step(self, *, key: str | None = None) -> Callable[[F], F]: ...

    def step(self, function: F | None = None, *, key: str | None = None) -> F | Callable[[F], F]:
        """Make each call of a function in a run one checkpoint.

        Its key is the function's name for the first call, `name#2` for the second, and so on: calls must
        come in the same order in every attempt (calls begun under `asyncio.gather` do, calls from several
        threads do not). Or give `key`, a format string over the arguments, such as "charge-{order_id}":
        then the key says which call it is, and two calls with one key are one checkpoint.
        """

        def decorate(wrapped: F) -> F:
            if not callable(wrapped):
                raise OptionError(f"@checkpoint.step: {wrapped!r} is no function")
            name = getattr(wrapped, "__name__", type(wrapped).__name__)
            format_key = None if key is None else _formats(wrapped, name, key)

            @functools.wraps(wrapped)
            def step(*args: Any, **kwargs: Any) -> Any:
                # the key is taken when the call is made, not when a coroutine of it first runs
                made = _numbered(name) if format_key is None else format_key(args, kwargs)
                return self(made, wrapped, *args, **kwargs)

            setattr(step, STEP_KEY, name if key is None else key)
            return _mark_coroutine(step) if is_async(wrapped) else step  # type: ignore[return-value]

        return decorate if function is None else decorate(function)


checkpoint = CheckpointFunction()


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    if isinstance(function, type):
        return False
    if getattr(function, "__samovar_async__", False):
        return True
    # (an object whose call is async)
    return makes_coroutine(function) or makes_coroutine(getattr(function, "__call__", None))  # noqa: B004


def _mark_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """So that `is_async` (and inspect, since Python 3.12) says of a step what it says of the function inside."""
    function.__samovar_async__ = True  # type: ignore[attr-defined]
    import inspect  # which an event loop takes anyway

    mark = getattr(inspect, "markcoroutinefunction", None)
    marked: Callable[..., Any] = function if mark is None else mark(function)
    return marked


def _formats(function: Any, name: str, key: str) -> Callable[[tuple[Any, ...], dict[str, Any]], str]:
    """What makes the key of a call out of its arguments."""
    import inspect

    signature = inspect.signature(function)

    def format_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            return key.format(**bound.arguments)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise OptionError(
                f"@checkpoint.step(key={key!r}) on {name}: {error!r}; known: {', '.join(bound.arguments)}"
            ) from None

    return format_key


def _numbered(name: str) -> str:
    run = find_run()
    number = 1 if run is None else run.count_call(name)
    return name if number == 1 else f"{name}#{number}"


def _run(key: str, given: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    run = find_run()
    if run is not None:
        _check(run, key)
        found, stored = run.lookup(key)
        if found:
            return codec.decode(stored, key)
    began = time.monotonic()
    value = given(*args, **kwargs) if callable(given) else given
    if is_awaitable(value):
        if is_coroutine(value):
            value.close()
        raise OptionError(
            f"checkpoint({key!r}): the function returned an awaitable; give the coroutine function itself, "
            f"await checkpoint({key!r}, fn, *args)"
        )
    return _store(run, key, value, began)


async def _run_async(key: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # the store is asked in a thread: an answer may take long, and other steps of the loop go on meanwhile
    import asyncio

    run = find_run()
    if run is not None:
        _check(run, key)
        found, stored = await asyncio.to_thread(run.lookup, key)
        if found:
            return codec.decode(stored, key)
    began = time.monotonic()
    value = await function(*args, **kwargs)
    return await asyncio.to_thread(_store, run, key, value, began)


def _check(run: CurrentRun, key: str) -> None:
    run.suspension.check()
    wait = run.store.known_wait(key)
    if wait is not None:
        raise mixed(key, describe(wait["kind"], wait["name"]), "a checkpoint")


def _store(run: CurrentRun | None, key: str, value: Any, began: float) -> Any:
    encoded = codec.encode(value, key)
    if run is not None:
        encoded = run.store.put(key, encoded, 1000 * (time.monotonic() - began))
    return codec.decode(encoded, key)
