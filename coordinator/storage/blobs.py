"""The blob store: a directory of files named by the SHA-256 of what is in them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import overload

from sqlalchemy import Connection

from coordinator.foundation import files
from coordinator.foundation.errors import StorageUnavailable, TooLarge

#: Seconds after which a file that is still coming in is what a dead process has left.
_ABANDONED = 3600.0
#: Seconds between looks at a blob that is not there: for an instant, which a busy machine makes longer, `remove`
#: takes out of sight what it then finds to be young.
_OUT_OF_SIGHT = (0.02, 0.1, 0.4)


def stored_in(conn: Connection) -> Blobs | None:
    """The blobs that the rows of the connection's database name (`Database.names`)."""
    found = conn.get_execution_options().get("blobs")
    assert found is None or isinstance(found, Blobs)
    return found


class Blobs:
    """A blob is there whole or not at all, and never changes. Raises StorageUnavailable where the disk fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._incoming.iterdir():
            # a young one may be another coordinator's that has the same directory
            with suppress(FileNotFoundError):
                if leftover.stat().st_mtime < time.time() - _ABANDONED and not leftover.name.startswith("partial-"):
                    leftover.unlink()

    def path(self, name: str) -> Path:
        return self._directory / name[:2] / name

    def get(self, name: str) -> bytes:
        try:
            for pause in _OUT_OF_SIGHT:
                try:
                    return self.path(name).read_bytes()
                except FileNotFoundError:
                    time.sleep(pause)
            return self.path(name).read_bytes()
        except OSError as error:
            raise StorageUnavailable(f"the blob {name[:12]}… cannot be read: {error.strerror}") from error

    def get_small(self, name: str, most: int) -> bytes | None:
        """The same of one that has at most so many bytes; None where it has more."""
        try:
            if self.path(name).stat().st_size > most:
                return None
        except FileNotFoundError:
            pass  # out of sight for an instant, or lost: `get` looks again
        return self.get(name)

    def put(self, data: bytes) -> str:
        """The name of `data`, which is on disk when this returns."""
        name = hashlib.sha256(data).hexdigest()
        # whether it is there is known only by making it young: one that was found might be removed the next moment
        if self.touch([name]):
            return name
        with self.arriving() as temporary:
            temporary.write_bytes(data)
            self._keep(temporary, name)
        return name

    def touch(self, names: Iterable[str]) -> int:
        """Makes blobs young, so that they are not removed for a while; how many of them there are."""
        found = 0
        for name in names:
            with suppress(FileNotFoundError):
                os.utime(self.path(name))
                # one that was taken out of sight meanwhile may have been found old before this made it young
                os.stat(self.path(name))
                found += 1
        return found

    def older(self, before: float) -> list[str]:
        """The blobs that nobody has put or touched since `before`, in seconds since the epoch."""
        found = []
        for directory in self._directory.iterdir():
            if len(directory.name) == 2:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            if entry.stat().st_mtime < before:
                                found.append(entry.name)
        return found

    def remove(self, name: str, before: float) -> bool:
        """Removes a blob, unless it has been put or touched since `before`.

        It is taken out of sight first: who puts it after that writes it anew, and who put it before that has
        made it young, which is seen now.
        """
        aside = self._incoming / f"leaving-{uuid.uuid4().hex}"
        try:
            if self.path(name).stat().st_mtime >= before:
                return False
            os.rename(self.path(name), aside)
            if aside.stat().st_mtime >= before:
                os.rename(aside, self.path(name))
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        return True

    def partial(self, id: str) -> Path:
        """Where the part of a blob is that has come so far; whoever uses it keeps it young, and takes it away."""
        return self._incoming / f"partial-{id}"

    def comes_in(self, id: str, since: float) -> bool:
        """Whether something was added to a `partial` one since then, in seconds since the epoch."""
        try:
            return self.partial(id).stat().st_mtime >= since
        except FileNotFoundError:
            return False

    @overload
    def take(self, file: Path) -> str: ...
    @overload
    def take(self, file: Path, wanted: str | None) -> str | None: ...
    def take(self, file: Path, wanted: str | None = None) -> str | None:
        """Makes a file that is `arriving` or `partial` a blob; its name, or None where another one is `wanted`."""
        with file.open("rb") as content:
            name = hashlib.file_digest(content, "sha256").hexdigest()
        if wanted is not None and name != wanted:
            return None
        if not self.touch([name]):
            self._keep(file, name)
        else:
            file.unlink(missing_ok=True)
        return name

    async def spool(self, chunks: AsyncIterator[bytes], target: Path, limit: int, what: str) -> None:
        """Writes a stream to a file that is `arriving`, without holding it in memory. Raises TooLarge.

        What comes after the limit is read and dropped, so that the sender hears the answer.
        """
        size = 0
        try:
            with target.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size <= limit:
                        file.write(chunk)
                    elif size > 2 * limit:
                        break
        except OSError as error:
            raise StorageUnavailable(f"a blob cannot be written: {error.strerror}; nothing was changed") from error
        if size > limit:
            raise TooLarge(f"{what} is larger than {limit} bytes")

    @contextmanager
    def arriving(self) -> Iterator[Path]:
        """A new file to write a blob into, gone afterwards if it was not kept. Raises StorageUnavailable."""
        try:
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            os.close(descriptor)
            try:
                yield Path(name)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        except OSError as error:
            raise StorageUnavailable(f"a blob cannot be written: {error.strerror}; nothing was changed") from error

    def _keep(self, temporary: Path, name: str) -> None:
        """Makes a written file a blob, so that it and its name survive a power cut."""
        target = self.path(name)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        files.sync(temporary)
        os.replace(temporary, target)
        files.sync(target.parent)
        files.sync(self._directory)
