"""The runner's way to the coordinator: claims, heartbeats, deaths, builds. Outbound HTTP only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, TypeVar

import aiohttp
from pydantic import BaseModel

from coordinator.wire import (
    FLEET,
    Addresses,
    AdoptReply,
    BuildDone,
    BuildFailed,
    BuildLog,
    ClaimRequest,
    ClaimResponse,
    CommandsReply,
    CommandsRequest,
    Enrol,
    Enrolled,
    Heartbeat,
    HeartbeatReply,
    HeldImages,
    Lost,
    RemovableImages,
)
from runner.errors import CoordinatorAway, CoordinatorRefused, SourceGone

Reply = TypeVar("Reply", bound=BaseModel)

_POLL_MARGIN = 10.0
_CONNECT = 5.0
_CONNECTIONS = 32
#: Seconds that an idle connection is kept: less than the coordinator does.
_KEPT = 60.0
#: What is said of the body, and so of every repetition of it.
_FINAL = (400, 413, 422)


class Refusal(NamedTuple):
    """Why the coordinator gave no key."""

    status: int
    code: str
    message: str


class Answer(NamedTuple):
    status: int
    content: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


class CoordinatorClient:
    """Raises CoordinatorAway when the coordinator can't be reached, fails, or refuses the runner's key."""

    def __init__(self, url: str, key: str, runner: str) -> None:
        """`key`: to begin with; `use` takes another."""
        self._runner = f"/runners/{runner}"
        self._addresses = Addresses(url)
        self._client: aiohttp.ClientSession | None = None
        self.use(key)

    def use(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    async def enrol(self, hashed: str) -> Enrolled | Refusal:
        """Asks for a key of this runner's own, with the key or token in use."""
        answer = await self._send(
            "POST", f"{self._runner}/enrol", Enrol(hash=hashed), accept=(401, 403, 404, 409, 422)
        )
        if answer.good:
            return Enrolled.model_validate_json(answer.content)
        try:
            problem = json.loads(answer.content)["error"]
            return Refusal(answer.status, str(problem["code"]), str(problem["message"]))
        except (ValueError, KeyError, TypeError):
            return Refusal(answer.status, "", answer.text[:300])

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def claim(self, request: ClaimRequest) -> ClaimResponse:
        return await self._call(f"{self._runner}/claim", request, ClaimResponse, request.timeout)

    async def heartbeat(self, request: Heartbeat) -> HeartbeatReply:
        return await self._call(f"{self._runner}/heartbeat", request, HeartbeatReply)

    async def commands(self, request: CommandsRequest) -> CommandsReply:
        return await self._call(f"{self._runner}/commands", request, CommandsReply, request.timeout)

    async def adopt(self) -> AdoptReply:
        answer = await self._send("GET", f"{self._runner}/attempts")
        return AdoptReply.model_validate_json(answer.content)

    async def removable_images(self, held: list[str]) -> list[str]:
        """Those of the images that no version needs any more."""
        reply = await self._call(f"{self._runner}/images", HeldImages(images=held), RemovableImages)
        return reply.remove

    async def lost(self, attempt: str, body: Lost) -> bool:
        """Whether the coordinator took the account; False: the attempt had ended already."""
        answer = await self._send("POST", f"/attempts/{attempt}/lost", body, accept=(404, 409))
        return answer.good

    async def build_source(self, deployment: str, target: Path) -> None:
        """Writes the source to the file `target`. Raises SourceGone."""
        path = f"/builds/{deployment}/source"
        answer = await self._send("GET", path, timeout=120, accept=(410,), target=target)
        if answer.status == 410:
            raise SourceGone(json.loads(answer.content)["error"]["message"])

    async def build_log(self, deployment: str, body: BuildLog) -> None:
        await self._send("POST", f"/builds/{deployment}/log", body, accept=(404, 409))

    async def build_done(self, deployment: str, body: BuildDone) -> None:
        await self._send("POST", f"/builds/{deployment}/done", body, accept=(404, 409))

    async def build_failed(self, deployment: str, body: BuildFailed) -> None:
        await self._send("POST", f"/builds/{deployment}/failed", body, accept=(404, 409))

    async def _call(self, path: str, body: BaseModel, reply: type[Reply], wait: float = 0) -> Reply:
        answer = await self._send("POST", path, body, timeout=wait + _POLL_MARGIN)
        return reply.model_validate_json(answer.content)

    async def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        timeout: float = 30,
        accept: tuple[int, ...] = (),
        target: Path | None = None,
    ) -> Answer:
        """The answer; with `target`, the body of a good one is there and not in memory. `timeout`: the seconds in
        which something has to be heard.
        """
        headers, data = self._headers, None
        if body is not None:
            headers, data = {**headers, "Content-Type": "application/json"}, body.model_dump_json().encode()
        url = self._addresses.current
        try:
            async with self._connected().request(
                method,
                url + FLEET + path,
                data=data,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=timeout),
            ) as heard:
                content = b""
                if target is None or heard.status >= 300:
                    content = await heard.read()
                else:
                    with target.open("wb") as file:
                        async for chunk in heard.content.iter_any():
                            file.write(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._addresses.failed(url)
            raise CoordinatorAway(f"{method} {path}: {error!r}") from None
        answer = Answer(heard.status, content)
        if answer.status in (421, 502, 503, 504):
            self._addresses.failed(url)
        if not answer.good and answer.status not in accept:
            kind = CoordinatorRefused if answer.status in _FINAL else CoordinatorAway
            raise kind(f"{method} {path}: HTTP {answer.status}: {answer.text[:300]}")
        return answer

    def _connected(self) -> aiohttp.ClientSession:
        if self._client is None:
            # made in the event loop that it is for
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._client
