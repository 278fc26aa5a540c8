"""The way to the coordinator: one HTTP client, and patience while the coordinator is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
import msgspec
import structlog

from coordinator.wire import FLEET, Addresses
from sidecar.batches import Answer, Batches, Item
from sidecar.envelope import WHOLE
from sidecar.errors import Refused, Stale
from sidecar.turns import Turns

log = structlog.get_logger()

#: Answers that mean "not now", or "not here", whatever was asked.
_AWAY = (421, 502, 503, 504)
#: Other failures that one request may meet before it is given up.
_FAILURES = 8
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_CONNECTIONS = 64
#: Seconds that an idle connection is kept: less than the coordinator does.
_KEPT = 60.0
#: Calls of a host that carry values, under way at once: each may be of 10 MiB, and many times that when parsed.
_VALUES_AT_ONCE = 8
_OTHERS_AT_ONCE = 32
#: Parts of files, of 1 MiB.
_FILES_AT_ONCE = 4
#: Of a refusal.
_LARGEST_REFUSAL = 256 * 1024
#: What goes together with what other attempts say, where its body has no more than so many bytes.
_TOGETHER = frozenset({"start", "checkpoint", "wait", "logs", "report", "egress", "extend", "finish"})
_MOST_TOGETHER = 64 * 1024
_WITH_VALUES = frozenset({"checkpoint", "checkpoint-get", "wait", "wait-result", "finish"})


class _Head(msgspec.Struct):
    """As fleet.JointAnswer."""

    status: int
    alone: bool = False


_heads = msgspec.json.Decoder(_Head)
_encoder = msgspec.json.Encoder()


class Upstream:
    """Calls the coordinator for attempts, each with its own bearer secret.

    A call that finds the coordinator away is repeated until it is answered or the caller is cancelled:
    the runner ends a container whose lease can't be renewed, so nothing waits here for ever. Every call
    may therefore arrive twice, and the coordinator counts it once.
    """

    def __init__(
        self, url: str, containers: Callable[[], int] = lambda: 1, projects: Callable[[], int] = lambda: 1
    ) -> None:
        """`containers`, `projects`: how many share this way at the moment."""
        self._addresses = Addresses(url)
        self._client: aiohttp.ClientSession | None = None
        self.away = asyncio.Event()
        self._values = Turns(_VALUES_AT_ONCE, lambda: max(1, _VALUES_AT_ONCE // max(1, containers())))
        self._files = Turns(_FILES_AT_ONCE, lambda: max(1, _FILES_AT_ONCE // max(1, containers())))
        self._others = Turns(_OTHERS_AT_ONCE, lambda: max(1, _OTHERS_AT_ONCE // max(1, containers())))
        #: A project has one large body under way at a time, while there is another one.
        self._large = Turns(_VALUES_AT_ONCE, lambda: 1 if projects() > 1 else _VALUES_AT_ONCE)
        self._batches = Batches(self._carry, projects)

    async def close(self) -> None:
        self._batches.close()
        if self._client is not None:
            await self._client.close()

    async def post(
        self,
        project: str,
        owner: str,
        attempt: str,
        action: str,
        secret: str,
        body: Sequence[bytes],
        large: Callable[[], Awaitable[None]],
    ) -> bytes:
        """The answer to `action` on `attempt`, a JSON object: as it came, or as the refusal that it is.

        `project` and `owner` take their turns with others; `large` is awaited before a large answer is read. What
        follows the `start` of an attempt comes after it, or with it. Raises Stale, Refused.
        """
        started = self._batches.starts(attempt) if action == "start" else None
        try:
            size = sum(map(len, body))
            if action in _TOGETHER and size <= _MOST_TOGETHER and not any(b"\n" in part for part in body):
                item = Item(project, attempt, action, secret, b"".join(body))
                if (answer := await self._batches.ask(item)) is not None:
                    self.away.clear()
                    return _read(*answer)
            if started is None:
                await self._batches.begun(attempt)
            turns = self._values if action in _WITH_VALUES else self._others
            if size <= _MOST_TOGETHER:
                return await self._call(owner, attempt, "POST", action, secret, body, large, turns)
            async with self._large.turn(project):
                return await self._call(owner, attempt, "POST", action, secret, body, large, turns)
        finally:
            if started is not None:
                started()

    async def _carry(self, batch: list[Item]) -> None:
        """Answers what the coordinator has judged; what it has not is sent by calls of their own, with patience."""
        first = batch[0]
        base = f"{self._addresses.current}{FLEET}/attempts/{first.attempt}"
        headers = {"Authorization": f"Bearer {first.secret}", "Content-Type": "application/octet-stream"}
        try:
            if len(batch) == 1 and first.action != "start":
                # alone it needs no envelope. (A start says how long it has waited.)
                await self._carry_one(first, base)
                return
            async with await self._send("POST", f"{base}/batch", [_written(batch)], headers) as answer:
                if answer.status == 200:
                    await _answer_each(batch, answer)
        except (aiohttp.ClientError, msgspec.MsgspecError, TimeoutError, OSError) as error:
            log.debug("a batch was not answered", items=len(batch), problem=repr(error))

    async def _carry_one(self, item: Item, base: str) -> None:
        headers = {"Authorization": f"Bearer {item.secret}", "Content-Type": "application/json"}
        async with await self._send("POST", f"{base}/{item.action}", [item.body], headers) as answer:
            if answer.status < 300 and (answer.content_length or 0) <= WHOLE:
                item.answer(Answer(answer.status, await answer.read()))
            elif 300 <= answer.status < 500 and answer.status not in _AWAY:
                item.answer(Answer(answer.status, await _start_of(answer)))

    async def send(self, owner: str, attempt: str, method: str, path: str, secret: str, data: bytes) -> bytes:
        """The answer to a part of a file, or to a word about one. Raises Stale, Refused."""

        async def never() -> None:
            """The answer is short."""

        return await self._call(owner, attempt, method, path, secret, [data], never, self._files)

    async def _call(
        self,
        owner: str,
        attempt: str,
        method: str,
        path: str,
        secret: str,
        body: Sequence[bytes],
        large: Callable[[], Awaitable[None]],
        turns: Turns,
    ) -> bytes:
        headers = {
            "Authorization": f"Bearer {secret}",
            "Content-Type": "application/octet-stream" if method == "PATCH" else "application/json",
            "Content-Length": str(sum(map(len, body))),
        }
        action = path.partition("?")[0]
        pause, failures = _FIRST_PAUSE, 0
        while True:
            base = self._addresses.current
            try:
                url = f"{base}{FLEET}/attempts/{attempt}/{path}"
                async with turns.turn(owner):
                    answer = await self._send(method, url, body, headers)
                # the coordinator's work is done: nobody else has to wait while the answer is read
                async with answer:
                    status = answer.status
                    if status < 300 and (answer.content_length or 0) > WHOLE:
                        await large()
                    content = await answer.read() if status < 300 else await _start_of(answer)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = repr(error)
            else:
                if status < 500 and status not in _AWAY:
                    self.away.clear()
                    return _read(status, content)
                problem = f"HTTP {status}"
                failures += status not in _AWAY
            self._addresses.failed(base)
            if failures >= _FAILURES:
                # it is there and fails over this one request: nobody else has to wait for that
                raise Refused(
                    "coordinator_failed", f"the coordinator failed {failures} times over {action}: {problem}"
                )
            if not failures and not self.away.is_set():
                log.warning("the coordinator does not answer; waiting for it", action=action, problem=problem)
                self.away.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    @asynccontextmanager
    async def content(self, attempt: str, path: str, secret: str, offset: int) -> AsyncIterator[Content]:
        """A file, from `offset` on; tried again until there is an answer. Raises Stale, Refused.

        What breaks off after that ends early: whoever reads asks again, from where it is.
        """
        headers = {"Authorization": f"Bearer {secret}", "Range": f"bytes={offset}-", "Accept-Encoding": "identity"}
        pause = _FIRST_PAUSE
        while True:
            base = self._addresses.current
            try:
                url = f"{base}{FLEET}/attempts/{attempt}/{path}"
                answer = await self._connected().get(url, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                log.debug("a file is waited for", problem=repr(error))
            else:
                async with answer:
                    if answer.status in (200, 206, 416):
                        yield Content(answer)
                        return
                    if answer.status < 500 and answer.status not in _AWAY:
                        _read(answer.status, await _start_of(answer))
                        raise Refused("http", f"HTTP {answer.status}", answer.status)
            self._addresses.failed(base)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _send(
        self, method: str, url: str, body: Sequence[bytes], headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """The answer, of which only the head has been read."""
        # in parts where it is large: no step of the loop is longer than one of them
        data = _parts(body) if sum(map(len, body)) > WHOLE else b"".join(body)
        return await self._connected().request(method, url, data=data, headers=headers, allow_redirects=False)

    def _connected(self) -> aiohttp.ClientSession:
        if self._client is None:
            # made in the event loop that it is for
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._client


class Content:
    """A file that is being read, or the end of one."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        # `bytes 10-19/20`, and `bytes */20` where nothing is left of it
        ranged = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = ranged if answer.status != 200 else answer.headers.get("Content-Length", "")
        self.size = int(size) if size.isdecimal() else 0
        self.sha256 = answer.headers.get("ETag", "").strip('"')

    async def read(self, most: int) -> bytes:
        """The next bytes; none where it ends, or breaks off."""
        if self._answer.status == 416:
            return b""
        try:
            return await self._answer.content.read(most)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return b""


def _written(batch: list[Item]) -> bytes:
    """Two lines for each item: who says it, and its body."""
    now = monotonic()
    lines = []
    for item in batch:
        waited = round(max(0.0, now - item.asked), 6)
        head = {"attempt": item.attempt, "secret": item.secret, "action": item.action, "waited": waited}
        lines += [_encoder.encode(head), item.body]
    return b"\n".join(lines) + b"\n"


async def _answer_each(batch: list[Item], answer: aiohttp.ClientResponse) -> None:
    """Gives each item its answer as soon as that is there."""
    left = iter(batch)
    rest = b""
    head: _Head | None = None
    async for part in answer.content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if head is None:
                head = _heads.decode(line)
                continue
            if (item := next(left, None)) is None:
                return
            item.answer(None if head.alone or head.status >= 500 else Answer(head.status, line))
            head = None


async def _parts(body: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in body:
        yield part


async def _start_of(answer: aiohttp.ClientResponse) -> bytes:
    """The body of a refusal, as far as anybody reads it."""
    data = b""
    async for part in answer.content.iter_any():
        data += part
        if len(data) > _LARGEST_REFUSAL:
            break
    return data[:_LARGEST_REFUSAL]


def _read(status: int, content: bytes) -> bytes:
    if 200 <= status < 300:
        return content if content.lstrip().startswith(b"{") else b"{}"
    try:
        error = json.loads(content)["error"]
        code, message = str(error["code"]), str(error["message"])
        fields = error.get("fields") or []
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message, fields = f"http_{status}", content.decode(errors="replace")[:500], []
    # an attempt that is gone (404) or whose secret is not valid any more (401, 403) is as stale as a 409
    if status in (401, 403, 404) or code == "stale_attempt":
        raise Stale(message)
    raise Refused(code, message, status, fields)
