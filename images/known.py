"""What was found out about images: that never changes, so it is kept for after the next start of this process.

It lies in the directory of whoever builds, beside what builders are lent, and none of them sees it.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterable
from pathlib import Path

from images.names import RECIPE, digest

#: A file's header, and its content.
Entry = tuple[tarfile.TarInfo, bytes]

#: Findings that are kept; of one image there are four.
_MOST = 64
#: Builds that begin together find out the same.
_putting = threading.Lock()


class Known:
    """Findings in a directory, by what was asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, *asked: str) -> bytes | None:
        """What was found out; None where nothing was, or what is there is not what was put."""
        try:
            whole = self._path(asked).read_bytes()
        except FileNotFoundError:
            return None
        data = whole[32:]
        return data if whole[:32] == hashlib.sha256(data).digest() else None

    def put(self, data: bytes, *asked: str) -> None:
        """Keep `data`, whole or not at all; the oldest are thrown away.

        For any thread of the one process that the directory is of.
        """
        with _putting:
            self._put(data, self._path(asked))

    def _put(self, data: bytes, path: Path) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(hashlib.sha256(data).digest() + data)
        new.replace(path)
        newest_first = sorted(self._directory.glob("*.known"), key=lambda each: each.stat().st_mtime, reverse=True)
        for old in newest_first[_MOST:]:
            old.unlink(missing_ok=True)

    def _path(self, asked: Iterable[str]) -> Path:
        return self._directory / f"{digest([str(RECIPE), *asked])[:32]}.known"


def packed(entries: Iterable[Entry]) -> bytes:
    """`entries` as a tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
    return stream.getvalue()


def unpacked(data: bytes) -> list[Entry]:
    """The entries of a tar archive of ours, as `packed` and Layer make it."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member, file.read() if (file := tar.extractfile(member)) is not None else b"") for member in tar]
