"""The control socket as a runner has it, for tests: what is asked, what is answered, every event that was said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samovar import wire


class Refusal(Exception):
    """The sidecar refuses what it was asked, or ends the connection."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class _Said:
    """What a sidecar has said so far."""

    def __init__(self) -> None:
        self.boot = ""
        self.events: list[dict[str, Any]] = []
        self.number = 0

    def request(self, kind: str, name: str, body: Any) -> bytes:
        self.number += 1
        message = {"id": self.number, "type": kind, "name": name}
        return wire.encode(message if body is None else {**message, "body": body})

    def take(self, message: dict[str, Any]) -> bool:
        """Whether it is the answer that is waited for. Raises Refusal."""
        if message["type"] == "event":
            self.events.append(message["event"])
            return False
        if message["type"] == "welcome":
            self.boot = message["boot"]
            return True
        if message.get("id") not in (None, self.number):
            return False
        if message["type"] == "refusal":
            raise Refusal(message["code"], message["message"])
        return True


class Control(_Said):
    """One connection in a loop; it connects when something is asked, and again when the sidecar is another one.

    It acknowledges nothing, and so hears of everything that a sidecar has kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._one = asyncio.Lock()

    async def ask(self, kind: str, name: str, body: Any = None) -> dict[str, Any]:
        """The answer. Raises Refusal."""
        async with self._one:
            if self._reader is not None and not self._reader.at_eof():
                with contextlib.suppress(ConnectionError):
                    return await self._asked(kind, name, body)
            await self._connect()
            return await self._asked(kind, name, body)

    async def so_far(self) -> list[dict[str, Any]]:
        """The events of the sidecar that is there: what has happened is said before an answer."""
        await self.ask("cancel", "nobody", {"attempt": "", "reason": "canceled", "grace": 0, "message": ""})
        return list(self.events)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _asked(self, kind: str, name: str, body: Any) -> dict[str, Any]:
        assert self._writer is not None
        self._writer.write(self.request(kind, name, body))
        await self._writer.drain()
        return await self._answer()

    async def _connect(self) -> None:
        await self.close()
        self.events.clear()
        self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=wire.MAX_LINE)
        self._writer.write(wire.encode({"type": "hello", "protocol": 1}))
        await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._reader is not None
        while True:
            line = await asyncio.wait_for(self._reader.readline(), 20)
            if not line:
                raise ConnectionError("the sidecar has ended the connection")
            message = wire.decode(line)
            if self.take(message):
                return message


class BlockingControl(_Said):
    """The same for threads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._socket: socket.socket | None = None
        self._lines: Iterator[bytes] = iter(())
        self._one = threading.Lock()

    def ask(self, kind: str, name: str, body: Any = None) -> dict[str, Any]:
        """The answer. Raises Refusal, OSError."""
        with self._one:
            if self._socket is None:
                self._connect()
            assert self._socket is not None
            self._socket.sendall(self.request(kind, name, body))
            return self._answer()

    def so_far(self) -> list[dict[str, Any]]:
        self.ask("cancel", "nobody", {"attempt": "", "reason": "canceled", "grace": 0, "message": ""})
        return list(self.events)

    def answers(self) -> bool:
        """Whether a sidecar is there."""
        with contextlib.suppress(OSError):
            self.so_far()
            return True
        self.close()
        return False

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(self._path))
        self._lines = iter(self._socket.makefile("rb"))
        self._socket.sendall(wire.encode({"type": "hello", "protocol": 1}))
        self._answer()

    def _answer(self) -> dict[str, Any]:
        for line in self._lines:
            message = wire.decode(line)
            if self.take(message):
                return message
        raise ConnectionError("the sidecar has ended the connection")
