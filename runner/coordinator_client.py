"""The runner's way to the coordinator: claims, heartbeats, deaths, builds. Outbound HTTP only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
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
#: What is said of the body, and so of every repetition of it.
_FINAL = (400, 413, 422)


class Refusal(NamedTuple):
    """Why the coordinator gave no key."""

    status: int
    code: str
    message: str


def speaks_tls(urls: str) -> bool:
    """Whether any of the addresses has TLS: reading a system's certificates is a tenth of a runner's start."""
    return any(not url.strip().startswith("http://") for url in urls.split(",") if url.strip())


class CoordinatorClient:
    """Raises CoordinatorAway when the coordinator can't be reached, fails, or refuses the runner's key."""

    def __init__(self, url: str, key: str, runner: str) -> None:
        """`key`: to begin with; `use` takes another."""
        self._runner = f"/runners/{runner}"
        self._addresses = Addresses(url)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(30, connect=5),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=60),
            trust_env=False,
            verify=speaks_tls(url),
        )

    def use(self, key: str) -> None:
        self._client.headers["Authorization"] = f"Bearer {key}"

    async def enrol(self, hashed: str) -> Enrolled | Refusal:
        """Asks for a key of this runner's own, with the key or token in use."""
        answer = await self._send(
            "POST", f"{self._runner}/enrol", Enrol(hash=hashed), accept=(401, 403, 404, 409, 422)
        )
        if answer.is_success:
            return Enrolled.model_validate_json(answer.content)
        try:
            problem = answer.json()["error"]
            return Refusal(answer.status_code, str(problem["code"]), str(problem["message"]))
        except (ValueError, KeyError, TypeError):
            return Refusal(answer.status_code, "", answer.text[:300])

    async def close(self) -> None:
        await self._client.aclose()

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
        return answer.is_success

    async def build_source(self, deployment: str, target: Path) -> None:
        """Writes the source to the file `target`. Raises SourceGone."""
        path = f"/builds/{deployment}/source"
        answer = await self._send("GET", path, timeout=120, accept=(410,), target=target)
        if answer.status_code == 410:
            raise SourceGone(answer.json()["error"]["message"])

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
    ) -> httpx.Response:
        """The answer; with `target`, that of a good one is there and not in memory."""
        content: dict[str, Any] = {}
        if body is not None:
            content = {"content": body.model_dump_json(), "headers": {"Content-Type": "application/json"}}
        url = self._addresses.current
        try:
            where = url + FLEET + path
            async with self._client.stream(method, where, timeout=timeout, **content) as answer:
                if target is None or not answer.is_success:
                    await answer.aread()
                else:
                    with target.open("wb") as file:
                        async for chunk in answer.aiter_bytes():
                            file.write(chunk)
        except httpx.HTTPError as error:
            self._addresses.failed(url)
            raise CoordinatorAway(f"{method} {path}: {error!r}") from None
        if answer.status_code in (421, 502, 503, 504):
            self._addresses.failed(url)
        if not answer.is_success and answer.status_code not in accept:
            kind = CoordinatorRefused if answer.status_code in _FINAL else CoordinatorAway
            raise kind(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:300]}")
        return answer
