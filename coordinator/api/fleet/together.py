"""What several attempts of a host say in one call: each item with its own secret, judged and answered on its own.

    POST attempts/{attempt}/batch      Authorization: the secret of {attempt}, which is that of any of the items

The gate has checked that before a byte of the body was read. The body is two lines for each item: a head
(`wire.JointItem`) and the body of the single call, as it would be sent alone; the answer two lines for each item,
in their order: a head (`wire.JointAnswer`) and the body of the answer. The items of one attempt are applied in
their order; all are committed together as far as they are short, and none is answered before its commit.

Nothing that may take long is done here: what needs work outside of its transaction, waits for a lock, or has a
large answer is marked `alone`, and its sender asks for it by a call of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response, StreamingResponse

from coordinator.api.direct import HandleRaw, RefusePart, content, validated
from coordinator.api.reading import parse
from coordinator.context import Coordinator
from coordinator.foundation.again import Again
from coordinator.foundation.errors import CoordinatorError, Forbidden, NotFound
from coordinator.storage.database import Call
from coordinator.wire import FLEET, JointAnswer, JointItem

log = structlog.get_logger()

KIB = 1024
#: Of a batch, of one item's body, and of one item's answer; and the items of a batch.
MOST_BYTES = 512 * KIB
MOST_BODY = 64 * KIB
MOST_ANSWER = 64 * KIB
MOST_ITEMS = 64
#: Bytes of bodies that are looked through in one step of the loop.
_STEP = 64 * KIB
_FAILED = b'{"error":{"code":"internal","message":"the coordinator failed; its log says why","fields":[]}}'


class Write(NamedTuple):
    """One transaction, and what is answered to what comes of it; `size` of that, where it may be large."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    answer: Callable[[Coordinator, Any], Awaitable[bytes | BaseModel]]
    size: Callable[[Any], int] = lambda result: 0


#: What a body asks for, said so many seconds ago; None where that is not one write.
Prepare = Callable[[Coordinator, str, Any, float], Write | None]


class Joint(NamedTuple):
    model: type[BaseModel]
    prepare: Prepare


class _Alone(Exception):
    """The item is to be sent as a call of its own."""


class _Item:
    """An item on its way: refused already, or with its write under way."""

    __slots__ = ("action", "attempt", "found", "problem", "write")

    def __init__(self) -> None:
        self.attempt = self.action = ""
        self.write: Write | None = None
        self.found: asyncio.Future[Any] | None = None
        self.problem: Exception | None = None

    @property
    def path(self) -> str:
        return f"{FLEET}/attempts/{self.attempt}/{self.action}"


def together(joint: Mapping[str, Joint]) -> HandleRaw:
    """The handler of a batch of these actions."""

    async def handle(core: Coordinator, carrier: str, data: bytes, refuse: RefusePart) -> Response:
        lines = data.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        items = []
        looked = 0
        for at in range(0, min(len(lines), 2 * MOST_ITEMS), 2):
            body = lines[at + 1] if at + 1 < len(lines) else b""
            items.append(_read(core, joint, lines[at], body))
            looked += len(body)
            if looked > _STEP:
                looked = 0
                await asyncio.sleep(0)
        # what is beyond the limit is not even looked at
        left = (len(lines) + 1) // 2 - len(items)
        _begin(core, items, await core.owners.lines(item.attempt for item in items if item.write is not None))
        answers = _answers(core, items, left, refuse)
        first = await anext(answers, b"")
        if all(item.found is None or item.found.done() for item in items):
            return Response(b"".join([first, *[part async for part in answers]]), media_type="text/plain")
        return StreamingResponse(_after(first, answers), media_type="text/plain")

    return handle


def _read(core: Coordinator, joint: Mapping[str, Joint], head: bytes, body: bytes) -> _Item:
    item = _Item()
    try:
        try:
            said = JointItem.model_validate_json(head)
        except ValidationError as error:
            problems = [{**each, "loc": ("head", *each["loc"])} for each in error.errors(include_url=False)]
            raise RequestValidationError(problems) from None
        item.attempt, item.action = said.attempt, said.action
        if not core.secrets.check(said.attempt, said.secret):
            raise Forbidden(f"this is not the secret of the attempt {said.attempt[:80]}")
        if (kind := joint.get(said.action)) is None:
            raise NotFound(f"{said.action[:80]!r} is nothing that goes together with others")
        if len(body) > MOST_BODY:
            raise _Alone
        given = validated(kind.model, body, parse(body) if body else None)
        item.write = kind.prepare(core, said.attempt, given, said.waited)
        if item.write is None:
            raise _Alone
    except Exception as error:
        item.problem = error
    return item


def _begin(core: Coordinator, items: list[_Item], lines: Mapping[str, str]) -> None:
    """Has the writes done, those of an attempt in their order, each in the line of its project."""
    calls: list[Call] = []
    asked: list[_Item] = []
    starts: dict[str, int] = {}
    for item in items:
        if item.write is None:
            continue
        # an attempt does not end before it has begun
        after = starts.get(item.attempt)
        if item.action == "start":
            starts[item.attempt] = len(calls)
        calls.append(Call(item.write.function, item.write.arguments, after, lines[item.attempt]))
        asked.append(item)
    for item, found in zip(asked, core.database.write_each(calls), strict=True):
        item.found = found
        # whether or not anybody is left to be answered
        found.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _answers(core: Coordinator, items: list[_Item], left: int, refuse: RefusePart) -> AsyncIterator[bytes]:
    """Those that are there already in one piece."""
    ready: list[bytes] = []
    for item in items:
        if item.found is not None and not item.found.done() and ready:
            yield b"".join(ready)
            ready.clear()
        ready.append(await _answer(core, item, refuse))
    ready += [_two_lines(JointAnswer(status=200, alone=True), b"")] * left
    yield b"".join(ready)


async def _answer(core: Coordinator, item: _Item, refuse: RefusePart) -> bytes:
    try:
        if item.problem is not None:
            raise item.problem
        assert item.found is not None
        assert item.write is not None
        result = await item.found
        if item.write.size(result) > MOST_ANSWER:
            raise _Alone
        body = content(await item.write.answer(core, result))
        status = 200
    except (_Alone, Again):
        return _two_lines(JointAnswer(status=200, alone=True), b"")
    except (CoordinatorError, RequestValidationError) as error:
        response = await refuse(item.path, error)
        status, body = response.status_code, bytes(response.body)
    except Exception as error:
        log.error("an item of a batch failed", path=item.path, exc_info=error)
        status, body = 500, _FAILED
    if len(body) > MOST_ANSWER or b"\n" in body:
        return _two_lines(JointAnswer(status=200, alone=True), b"")
    return _two_lines(JointAnswer(status=status), body)


def _two_lines(head: JointAnswer, body: bytes) -> bytes:
    return b"%b\n%b\n" % (head.model_dump_json().encode(), body)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part
