"""Files between the process of a run and the sidecar: over a socket of their own, past process 1.

What breaks off is gone on with where it ended: the sidecar may begin anew, and the coordinator too.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from typing import Any, Callable, TypeVar

from samovar import wire
from samovar.errors import CheckpointError, FileMissing, FileRefused
from samovar.values.file import File

_STEP = 256 * 1024
#: Seconds without a byte after which a connection is taken for dead; and between two tries.
_SILENCE = 60.0
_PAUSE = 0.1
T = TypeVar("T")


class BrokenOff(Exception):
    """The connection ended before all was said: it is tried again."""


class Desk:
    """The sidecar, as the process of a run asks it itself."""

    def __init__(self, path: str, ticket: str) -> None:
        self._path = path
        self._ticket = ticket

    def ask(self, message: wire.Message) -> wire.Message:
        """The answer to one line. Raises CheckpointError where nobody answers."""
        return self._persist(lambda: self._once(message))

    def fetch(self, id: str, name: str, size: int) -> str:
        """A file below the scratch folder; the path. Raises FileMissing."""
        import tempfile

        folder = os.path.join(tempfile.gettempdir(), "samovar-files", id)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, os.path.basename(name) or "file")
        if not os.path.exists(path):
            part = f"{path}.{os.getpid()}.part"
            try:
                self._persist(lambda: self._fetch_on(id, name, part))
                os.replace(part, path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part)
        return path

    def _fetch_on(self, id: str, name: str, part: str) -> None:
        with open(part, "ab") as file, _Line(self._path) as line:
            offset = file.tell()
            answer = line.ask({"ticket": self._ticket, "ask": "get", "file": id, "offset": offset})
            if not answer.get("ok"):
                raise FileMissing(f"{name}: {_said(answer)}")
            size = int(answer["size"])
            while offset < size:
                data = line.read()
                if not data:
                    raise BrokenOff(f"{name}: {offset} of {size} bytes have come")
                file.write(data)
                offset += len(data)
        if _digest(part)[0] != answer["sha256"]:
            os.truncate(part, 0)
            raise BrokenOff(f"{name}: what has come is something else than what was kept")

    def keep(self, name: str, path: str, media_type: str) -> File:
        """Sends a file that the run is to keep. Raises FileRefused, CheckpointError."""
        digest, size = _digest(path)
        asked = {"ask": "put", "name": name, "size": size, "sha256": digest, "media_type": media_type}
        id = self._persist(lambda: self._keep_on(asked, path))
        return File.stored(id, name, size, path)

    def _keep_on(self, asked: wire.Message, path: str) -> str:
        with open(path, "rb") as file, _Line(self._path) as line:
            answer = line.ask({"ticket": self._ticket, **asked})
            if not answer.get("ok"):
                raise FileRefused(f"artifact {asked['name']!r}: {_said(answer)}")
            left = asked["size"] - file.seek(int(answer["received"]))
            while left > 0:
                data = file.read(min(_STEP, left))
                if not data:
                    raise FileRefused(f"artifact {asked['name']!r}: the file became shorter while it was sent")
                line.send(data)
                left -= len(data)
            answer = line.answer()
            if not answer.get("ok"):
                raise FileRefused(f"artifact {asked['name']!r}: {_said(answer)}")
            return str(answer["id"])

    def _once(self, message: wire.Message) -> wire.Message:
        with _Line(self._path) as line:
            return line.ask({"ticket": self._ticket, **message})

    def _persist(self, work: Callable[[], T]) -> T:
        """`work`, again and again while it breaks off; for so long as a container lives without a sidecar."""
        deadline = time.monotonic() + wire.DISCONNECT_LIMIT
        while True:
            began = time.monotonic()
            try:
                return work()
            except BrokenOff as error:
                if time.monotonic() - began > wire.DISCONNECT_LIMIT:
                    deadline = time.monotonic() + wire.DISCONNECT_LIMIT  # it went on for a while
                if time.monotonic() > deadline:
                    raise CheckpointError(f"the sidecar does not answer: {error}") from None
                time.sleep(_PAUSE)


class _Line:
    """One connection: a line, an answer, and what follows. Raises BrokenOff: an OSError is of the disk."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer = b""

    def __enter__(self) -> _Line:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SILENCE)
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise BrokenOff(str(error)) from None
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def ask(self, message: wire.Message) -> wire.Message:
        self.send(wire.encode(message))
        return self.answer()

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            # it may have said why before it hung up
            with suppress(BrokenOff):
                said = self.answer()
                if not said.get("ok"):
                    raise FileRefused(_said(said)) from None
            raise BrokenOff(str(error)) from None

    def answer(self) -> wire.Message:
        while b"\n" not in self._buffer:
            data = self._receive()
            if not data:
                raise BrokenOff("the connection ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer: Any = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise BrokenOff("what answers is no sidecar")
        return answer

    def read(self) -> bytes:
        """The next bytes after the answer; none at the end."""
        data, self._buffer = self._buffer, b""
        return data or self._receive()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_STEP)
        except OSError as error:
            raise BrokenOff(str(error)) from None


def _said(answer: wire.Message) -> str:
    error = answer.get("error") or {}
    return str(error.get("message") or error.get("code") or "refused")


def _digest(path: str) -> tuple[str, int]:
    """SHA-256 in hexadecimal, and the size."""
    import hashlib

    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while data := file.read(1024 * 1024):
            digest.update(data)
            size += len(data)
    return digest.hexdigest(), size
