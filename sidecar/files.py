"""Files between the process of a run and the coordinator: streamed, a part at a time, never here as a whole."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field

from coordinator.wire import ArtifactCall, Assignment, Received
from sidecar.errors import Refused
from sidecar.pace import Pace
from sidecar.run_socket import PATIENCE, Visit
from sidecar.turns import Turns
from sidecar.upstream import Upstream

#: Bytes of a part on its way to the coordinator, and of a step on the way back.
PART = 1024 * 1024
_STEP = 256 * 1024
#: Of one container, bytes a second and at once: beyond that others' messages would wait for its files.
_BYTES = (128.0 * 1024 * 1024, 64 * 1024 * 1024)


class _Get(BaseModel):
    file: Annotated[str, Field(max_length=37, pattern=r"^file_[0-9a-f]{32}$")]
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0


class Files:
    """Of one container, for one attempt after the other. `turns` are shared by the containers of the host."""

    def __init__(self, name: str, upstream: Upstream, turns: Turns) -> None:
        self._name = name
        self._upstream = upstream
        self._turns = turns
        self._pace = Pace(_BYTES[0], _BYTES[1])

    async def get(self, visit: Visit, a: Assignment) -> None:
        """`{file, offset}` is answered with `{size, sha256}` and the bytes after the offset; whoever was cut off
        asks once more from where it is.
        """
        asked = _Get.model_validate(visit.request)
        url = f"files/{asked.file}?token={a.token}"
        async with self._upstream.content(a.attempt, url, a.secret, asked.offset) as content:
            await visit.answer({"ok": True, "size": content.size, "sha256": content.sha256})
            left = content.size - asked.offset
            while left > 0:
                async with self._turns.turn(self._name):
                    data = await content.read(min(_STEP, left))
                if not data:
                    return
                left -= len(data)
                await self._paced(len(data))
                await visit.send(data)

    async def put(self, visit: Visit, a: Assignment) -> None:
        """`{name, size, sha256, media_type}` is answered with `{received}`; then come the bytes after those, and at
        the end an answer more.
        """
        call = ArtifactCall.model_validate({**visit.request, "token": a.token})
        known = await self._announce(a, call)
        await visit.answer({"ok": True, "id": known.id, "received": known.received})
        while known.received < known.size:
            async with asyncio.timeout(PATIENCE):
                data = await visit.reader.readexactly(min(PART, known.size - known.received))
            await self._paced(len(data))
            known = await self._send(a, call, known, data)
        await visit.answer({"ok": True, "id": known.id, "received": known.received})

    async def _send(self, a: Assignment, call: ArtifactCall, known: Received, data: bytes) -> Received:
        url = f"files/{known.id}?token={a.token}&offset={known.received}"
        while True:
            try:
                async with self._turns.turn(self._name):
                    return Received.model_validate_json(
                        await self._upstream.send(self._name, a.attempt, "PATCH", url, a.secret, data)
                    )
            except Refused as error:
                if error.code not in ("wrong_offset", "busy"):
                    raise
                # an earlier try of the same part, whose answer was lost, may have come through
                there = await self._announce(a, call)
                if there.received >= known.received + len(data):
                    return there.model_copy(update={"received": known.received + len(data)})
                if there.received != known.received:
                    raise
                await asyncio.sleep(0.1)

    async def _announce(self, a: Assignment, call: ArtifactCall) -> Received:
        body = call.model_dump_json().encode()
        answer = await self._upstream.send(self._name, a.attempt, "POST", "artifact", a.secret, body)
        return Received.model_validate_json(answer)

    async def _paced(self, size: int) -> None:
        if pause := self._pace.take(size):
            await asyncio.sleep(pause)
