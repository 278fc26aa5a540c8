"""`samovar.artifact`: files that a run keeps."""

from __future__ import annotations

import os
from typing import Any, Callable

from samovar.errors import OptionError
from samovar.running.run import current_run
from samovar.values.file import File


def artifact(
    name: str,
    source: str | os.PathLike[str] | bytes | Callable[[str], Any],
    *,
    media_type: str | None = None,
) -> File:
    """Keep a file with the run, under `name` (a relative path such as "plots/a.png"); listed with it from then on.

    `source`: its path, its bytes, or a function that is called with the path to write to (`df.to_parquet`). A file
    that the run has kept under this name before, in this attempt or an earlier one, is replaced. When this returns
    it is stored. Raises NotInRun, OptionError, FileRefused.
    """
    import mimetypes  # (and below: what only those take that keep files)

    store = current_run().store
    if not isinstance(name, str) or not name:
        raise OptionError(f"artifact({name!r}): give a name such as 'report.pdf'")
    kind = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    if isinstance(source, (str, os.PathLike)):
        path = os.path.abspath(os.fspath(source))
        if not os.path.isfile(path):
            raise OptionError(f"artifact({name!r}): there is no file {os.fspath(source)!r} (looked for {path})")
        return store.keep_file(name, path, kind)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="samovar-artifact-") as folder:
        # with its ending, by which many writers choose what they write
        path = os.path.join(folder, os.path.basename(name) or "file")
        if isinstance(source, (bytes, bytearray, memoryview)):
            with open(path, "wb") as file:
                file.write(source)
        elif callable(source):
            source(path)
        else:
            raise OptionError(
                f"artifact({name!r}): {type(source).__name__} is no source: give a path, bytes, or a function that "
                "is called with the path to write to"
            )
        if not os.path.isfile(path):
            raise OptionError(f"artifact({name!r}): the function has not written to the path that it was given")
        kept = store.keep_file(name, path, kind)
    return File.stored(str(kept.id), kept.name, kept.size) if kept.id is not None else kept
