"""`samovar.File`: a file that a task is given or has kept."""

from __future__ import annotations

import os
import threading
from typing import IO, Any, Callable

from samovar.errors import FileMissing, OptionError

REFERENCE = "$file"
#: Before the path of a file that has not been uploaded: it means something where it was written, and nowhere else.
_LOCAL = "local:"

#: Brings a file, by its id, name and size, below the scratch folder; the path. Raises FileMissing.
Fetch = Callable[[str, str, int], str]

_fetch: Fetch | None = None


def fetch_with(fetch: Fetch) -> None:
    """How this process, which is a run's, gets at files. For the harness."""
    global _fetch
    _fetch = fetch


class File:
    """A file: `name`, `size` in bytes, and where it can be read: `path`.

    As an argument of a task it is what the payload refers to; `path` is below the scratch folder, and brought there
    when it is first asked for. It may be handed on to a child run, be kept in a checkpoint and be a task's result.
    `File("table.csv")` is a file of this machine, for `task.local()` and `client.upload`.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self._path: str | None = os.path.abspath(os.fspath(path))
        try:
            self.size = os.stat(self._path).st_size
        except OSError as error:
            raise OptionError(f"File({os.fspath(path)!r}): {error.strerror}") from None
        self.name = name or os.path.basename(self._path)
        #: Where Samovar knows it: its id there.
        self.id: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def stored(cls, id: str, name: str, size: int, path: str | None = None) -> File:
        """A file that Samovar keeps; `path` where it is here as well."""
        file = cls.__new__(cls)
        file.id, file.name, file.size, file._path = id, name, size, path
        file._lock = threading.Lock()
        return file

    @classmethod
    def of(cls, reference: dict[str, Any]) -> File:
        """What a reference in a payload means. Raises ValueError where it is none."""
        id, name, size = reference.get(REFERENCE), reference.get("name", ""), reference.get("size", 0)
        if not isinstance(id, str) or not isinstance(name, str) or type(size) is not int:
            raise ValueError("no reference to a file")
        if id.startswith(_LOCAL):
            return cls(id[len(_LOCAL) :], name or None)
        return cls.stored(id, name or id, size)

    def reference(self) -> dict[str, Any]:
        """How it stands in JSON."""
        return {REFERENCE: self.id or f"{_LOCAL}{self._path}", "name": self.name, "size": self.size}

    @property
    def path(self) -> str:
        """Where it can be read; the first time, it is brought there and checked. Raises FileMissing."""
        with self._lock:
            if self._path is None:
                if _fetch is None:
                    raise FileMissing(f"{self.name}: a file that Samovar keeps is brought to a path in a run alone")
                self._path = _fetch(str(self.id), self.name, self.size)
            return self._path

    def __fspath__(self) -> str:
        return self.path

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """The file, opened as `open` does."""
        return open(self.path, mode, **options)

    def read_bytes(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        with open(self.path, encoding=encoding) as file:
            return file.read()

    def __repr__(self) -> str:
        return f"<File {self.name!r}, {self.size} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and self.reference() == other.reference()

    def __hash__(self) -> int:
        return hash(self.id or self._path)

    def __getstate__(self) -> dict[str, Any]:
        # to another process of the run: that has the path, and no way to Samovar
        return {"id": self.id, "name": self.name, "size": self.size, "path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.id, self.name, self.size, self._path = state["id"], state["name"], state["size"], state["path"]
        self._lock = threading.Lock()
