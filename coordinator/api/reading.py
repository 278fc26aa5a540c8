"""JSON bodies: counted before anything is made of them, and parsed where nobody waits for it.

Lists, objects and their members are counted in the bytes: a body of a few megabytes can be a million objects. A
name that stands twice in one object is refused: of two readers one takes the first, the other the last.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pydantic_core
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from coordinator.foundation.counting import count
from coordinator.foundation.errors import Invalid, TooLarge
from coordinator.foundation.limits import MAX_BODY_DEPTH, MAX_BODY_NODES
from coordinator.wire import FieldProblem

#: A body that is larger is parsed in a thread, one at a time.
_LARGE = 64 * 1024
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
#: A thousand digits are found in a copy of a body in which all digits are one: a pattern would try again at each of
#: them, and hold the interpreter for a second where somebody writes 999 of them, over and over. Most bodies need no
#: copy: wherever a thousand digits begin, one of the pieces of half that length is of digits alone.
_DIGIT = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
_DIGITS = b"0" * 1000
_HALF = 500
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
#: Bytes from which on a body may be read by the faster parser, and the texts that it may have for that.
_LONG = 4096
_TEXTS = 64
_TURN: asyncio.Lock | None = None


def invalid_body(message: str) -> Invalid:
    problem = FieldProblem(path="body", message=message)
    return Invalid(f"body: {message}", code="invalid_request", fields=[problem])


def _many_digits(data: bytes) -> bool:
    if not any(data[at : at + _HALF].isdigit() for at in range(0, len(data), _HALF)):
        return False
    return _DIGITS in data.translate(_DIGIT)


def measure(data: bytes) -> None:
    """Raises Invalid or TooLarge for what is too deep, has too many nodes, or a number of 1,000 digits."""
    opened = count(data, b"[") + count(data, b"{")
    nodes = count(data, b",") + opened
    if nodes <= MAX_BODY_NODES and opened <= MAX_BODY_DEPTH and len(data) < 1000:
        return
    if nodes > MAX_BODY_NODES or opened > MAX_BODY_DEPTH or _many_digits(data):
        data = _STRING.sub(b"", data)
        if _many_digits(data):
            raise invalid_body("a number of 1,000 digits or more: send it as text")
    if count(data, b",") + count(data, b"[") + count(data, b"{") > MAX_BODY_NODES:
        raise TooLarge(
            f"body: more than {MAX_BODY_NODES} values: keep the data in a file or a store of your own and pass its "
            "name"
        )
    brackets = data.translate(None, _BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") <= MAX_BODY_DEPTH:
        return
    steps = brackets.translate(_STEPS)
    if max(accumulate(step - 1 for step in steps), default=0) > MAX_BODY_DEPTH:
        raise invalid_body(
            f"lists and objects are nested more than {MAX_BODY_DEPTH} deep: flatten the payload, or send it as text"
        )


_STEPS = bytes(2 if byte in b"[{" else 0 if byte in b"]}" else 1 for byte in range(256))


class _Twice(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return made


def _constant(name: str) -> Any:
    raise invalid_body(f"{name} is not JSON: send null, or text")


def _members(data: bytes) -> int | None:
    """How many members the objects of a body have in all, as it is written; None where that is long to find.

    It is quick where a body is numbers, or a few long texts in which nothing is escaped.
    """
    if b"\\" in data:
        return None
    found = at = 0
    for _ in range(_TEXTS):
        begin = data.find(b'"', at)
        found += count(data[at : begin if begin >= 0 else None], b":")
        if begin < 0:
            return found
        at = data.find(b'"', begin + 1) + 1
        if at == 0:
            return None
    return None


def _members_of(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    found = len(value) if isinstance(value, dict) else 0
    return found + sum(_members_of(each) for each in inner if isinstance(each, (dict, list)))


def _quickly(data: bytes) -> Any:
    """The value of a long body, ten times as fast as by `json`, which holds the interpreter all that time.

    Raises ValueError where `json` is to read it: where it is wrong, or not seen at once to have no name twice.
    """
    members = _members(data)
    if members is not None:
        value = pydantic_core.from_json(data, allow_inf_nan=False, cache_strings="keys")
        if members == _members_of(value):
            return value
    raise ValueError


def parse(data: bytes) -> Any:
    """The value. Raises Invalid and TooLarge, RequestValidationError as FastAPI does where it is no JSON."""
    measure(data)
    if len(data) > _LONG:
        with suppress(ValueError):
            return _quickly(data)
    try:
        return json.loads(data.decode().removeprefix("\ufeff"), object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise RequestValidationError([{**problem, "ctx": {"error": error.msg}}]) from None
    except _Twice as error:
        raise invalid_body(f"{str(error)[:80]!r} stands twice in one object") from None
    except UnicodeDecodeError:
        raise invalid_body("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise invalid_body(f"not JSON: {str(error)[:200]}") from None


async def parse_in_turn(data: bytes) -> Any:
    """`parse`, away from the event loop where the body is large."""
    global _TURN
    if len(data) <= _LARGE:
        return parse(data)
    if _TURN is None or _TURN._loop not in (None, asyncio.get_running_loop()):  # type: ignore[attr-defined]
        _TURN = asyncio.Lock()
    async with _TURN:
        return await asyncio.to_thread(parse, data)


class Route(APIRoute):
    """A route whose JSON body is read in this way, before FastAPI asks for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read(request: Request) -> Response:
            data = await request.body()
            kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
            if data and (kind == "application/json" or kind.endswith("+json")):
                request._json = await parse_in_turn(data)
            return await handle(request)

        return read
