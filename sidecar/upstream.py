"""The way to the coordinator: one HTTP client, and patience while the coordinator is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import structlog
from pydantic import BaseModel

from coordinator.wire import FLEET, Addresses
from sidecar.errors import Refused, Stale

log = structlog.get_logger()

#: Answers that mean "not now", whatever was asked.
_AWAY = (502, 503, 504)
#: Other failures that one request may meet before it is given up.
_FAILURES = 8
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_CONNECTIONS = 64
#: Seconds that an idle connection is kept: less than the coordinator does.
_KEPT = 60.0
#: Calls of a host that carry values, under way at once: each may be of 10 MiB, and many times that when parsed.
_VALUES_AT_ONCE = 8
_WITH_VALUES = frozenset({"checkpoint", "checkpoint-get", "wait", "wait-result", "finish"})


class Upstream:
    """Calls the coordinator for attempts, each with its own bearer secret.

    A call that finds the coordinator away is repeated until it is answered or the caller is cancelled:
    the runner ends a container whose lease can't be renewed, so nothing waits here for ever. Every call
    may therefore arrive twice, and the coordinator counts it once.
    """

    def __init__(self, url: str) -> None:
        self._addresses = Addresses(url)
        self._client: aiohttp.ClientSession | None = None
        self.away = asyncio.Event()
        self._values = asyncio.Semaphore(_VALUES_AT_ONCE)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def post(self, attempt: str, action: str, secret: str, body: BaseModel) -> dict[str, Any]:
        """The answer to `action` on `attempt`. Raises Stale or Refused."""
        content = body.model_dump_json()
        # as text it waits in its own size; as objects it may take thirty times that
        del body
        async with self._values if action in _WITH_VALUES else contextlib.nullcontext():
            return await self._post(attempt, action, secret, content)

    async def _post(self, attempt: str, action: str, secret: str, content: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        pause, failures = _FIRST_PAUSE, 0
        while True:
            base = self._addresses.current
            try:
                url = f"{base}{FLEET}/attempts/{attempt}/{action}"
                status, answer = await self._send(url, content, headers)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = repr(error)
            else:
                if status < 500:
                    self.away.clear()
                    return _read(status, answer)
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

    async def _send(self, url: str, content: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._client is None:
            # made in the event loop that it is for
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        sending = self._client.post(url, data=content.encode(), headers=headers, allow_redirects=False)
        async with sending as answer:
            return answer.status, await answer.read()


def _read(status: int, content: bytes) -> dict[str, Any]:
    if 200 <= status < 300:
        body = json.loads(content) if content else {}
        return body if isinstance(body, dict) else {}
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
