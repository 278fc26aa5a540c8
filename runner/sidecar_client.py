"""The runner's way to the sidecar of its host: HTTP over the control socket."""

from __future__ import annotations

from pathlib import Path

import httpx
from pydantic import BaseModel

from coordinator.wire import (
    Assign,
    Assignment,
    CancelAttempt,
    ContainerState,
    Egress,
    Events,
    Reached,
    Register,
    Start,
)
from runner.errors import SidecarAway


class SidecarClient:
    """Raises SidecarAway when the sidecar can't be reached or does not know the container."""

    def __init__(self, socket: Path) -> None:
        self._client = httpx.AsyncClient(
            base_url="http://sidecar",
            transport=httpx.AsyncHTTPTransport(
                uds=str(socket), limits=httpx.Limits(max_connections=32, max_keepalive_connections=16)
            ),
            timeout=httpx.Timeout(10, connect=2),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def register(self, container: str, body: Register) -> ContainerState:
        answer = await self._send("PUT", f"/containers/{container}", body)
        return ContainerState.model_validate_json(answer.content)

    async def forget(self, container: str) -> None:
        await self._send("DELETE", f"/containers/{container}")

    async def assign(self, container: str, assignment: Assignment, start: Start) -> None:
        await self._send("POST", f"/containers/{container}/assign", Assign(assignment=assignment, start=start))

    async def cancel(self, container: str, body: CancelAttempt) -> bool:
        """Whether the container was told; False where it has no connection or another attempt."""
        answer = await self._send("POST", f"/containers/{container}/cancel", body, accept=(404, 409))
        return answer.is_success

    async def open_builder(self, name: str, body: Egress) -> None:
        """Opens a builder's door, or holds an open one open."""
        await self._send("PUT", f"/builders/{name}", body)

    async def close_builder(self, name: str) -> Reached:
        answer = await self._send("DELETE", f"/builders/{name}")
        return Reached.model_validate_json(answer.content)

    async def events(self, boot: str, after: int, timeout: float) -> Events:
        path = f"/events?boot={boot}&after={after}&timeout={timeout}"
        answer = await self._send("GET", path, timeout=timeout + 10)
        return Events.model_validate_json(answer.content)

    async def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        timeout: float = 10,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        content = body.model_dump_json() if body is not None else None
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            answer = await self._client.request(method, path, content=content, headers=headers, timeout=timeout)
        except httpx.HTTPError as error:
            raise SidecarAway(f"{method} {path}: {error!r}") from None
        if not answer.is_success and answer.status_code not in accept:
            raise SidecarAway(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:300]}")
        return answer
