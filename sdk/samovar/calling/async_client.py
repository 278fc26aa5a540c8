"""`AsyncClient`: the Client for programs that run an event loop. Each call runs in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from samovar.calling.client import Artifact, Client, RunHandle
from samovar.calling.items import Items
from samovar.values.file import File

_END = object()


class AsyncRunHandle:
    """A run as it was when last asked about; see RunHandle."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        return repr(self._handle)

    @property
    def id(self) -> str:
        return self._handle.id

    @property
    def status(self) -> str:
        return self._handle.status

    @property
    def is_final(self) -> bool:
        return self._handle.is_final

    @property
    def data(self) -> dict[str, Any]:
        return self._handle.data

    async def refresh(self) -> AsyncRunHandle:
        await asyncio.to_thread(self._handle.refresh)
        return self

    async def wait(self, timeout: float | str | None = None) -> AsyncRunHandle:
        """Wait until the run is over; this handle. Raises WaitTimeout."""
        await asyncio.to_thread(self._handle.wait, timeout)
        return self

    async def result(self, timeout: float | str | None = None) -> Any:
        """The run's result, waited for. Raises RunFailed, WaitTimeout."""
        return await asyncio.to_thread(self._handle.result, timeout)

    async def logs(self, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        """The run's lines; with `follow` until it is over."""
        async for line in _iterate(self._handle.logs(follow)):
            yield line

    async def checkpoints(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._handle.checkpoints)

    async def artifacts(self) -> list[Artifact]:
        """The files that the run keeps; each has `save` and `read`, which take a while: asyncio.to_thread."""
        return await asyncio.to_thread(self._handle.artifacts)

    async def artifact(self, name: str) -> Artifact:
        """The file that the run keeps under `name`. Raises FileMissing."""
        return await asyncio.to_thread(self._handle.artifact, name)

    async def attempts(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._handle.attempts)

    async def bump(self) -> AsyncRunHandle:
        """Put the run at the front of its queue; see RunHandle.bump."""
        await asyncio.to_thread(self._handle.bump)
        return self

    async def release_key(self) -> AsyncRunHandle:
        """Free the run's idempotency key; see RunHandle.release_key."""
        await asyncio.to_thread(self._handle.release_key)
        return self

    async def cancel(self) -> AsyncRunHandle:
        await asyncio.to_thread(self._handle.cancel)
        return self


class AsyncClient:
    """A connection to a coordinator; see Client."""

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._client = Client(url, api_key)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._client.transport.url}>"

    def close(self) -> None:
        self._client.close()

    async def trigger(self, task: str, payload: Mapping[str, Any] | None = None, **options: Any) -> AsyncRunHandle:
        """Trigger `task`, with the options of Client.trigger."""
        return AsyncRunHandle(await asyncio.to_thread(self._client.trigger, task, payload, **options))

    async def batch_trigger(self, task: str, items: Items, **options: Any) -> list[AsyncRunHandle]:
        """Trigger `task` once for each item, all or none; see Client.batch_trigger."""
        handles = await asyncio.to_thread(self._client.batch_trigger, task, items, **options)
        return [AsyncRunHandle(handle) for handle in handles]

    async def upload(
        self, path: str | os.PathLike[str], *, name: str | None = None, project: str | None = None
    ) -> File:
        """Send a file, for the payload of runs; see Client.upload."""
        return await asyncio.to_thread(self._client.upload, path, name=name, project=project)

    async def send_event(
        self, name: str, payload: Any = None, *, id: str | None = None, project: str | None = None
    ) -> dict[str, Any]:
        """Send an event to the tasks that listen to it; see Client.send_event."""
        return await asyncio.to_thread(self._client.send_event, name, payload, id=id, project=project)

    async def create_schedule(self, task: str, cron: str, **options: Any) -> dict[str, Any]:
        """Have a task run by a cron line; see Client.create_schedule."""
        return await asyncio.to_thread(self._client.create_schedule, task, cron, **options)

    async def delete_schedule(self, id: str) -> None:
        """End a schedule that `create_schedule` made."""
        await asyncio.to_thread(self._client.delete_schedule, id)

    async def complete_token(self, id: str, value: Any = None) -> None:
        """End the wait of a token; see Client.complete_token."""
        await asyncio.to_thread(self._client.complete_token, id, value)

    async def run(self, id: str) -> AsyncRunHandle:
        """The run with this id."""
        return AsyncRunHandle(await asyncio.to_thread(self._client.run, id))

    async def runs(self, **filters: Any) -> AsyncIterator[AsyncRunHandle]:
        """Runs, newest first, with the filters of Client.runs."""
        async for handle in _iterate(self._client.runs(**filters)):
            yield AsyncRunHandle(handle)


async def _iterate(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    while True:
        item = await asyncio.to_thread(next, iterator, _END)
        if item is _END:
            return
        yield item
