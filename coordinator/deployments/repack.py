"""A process of its own: reads an uploaded source and writes it anew, as a runner reads it.

`python -m coordinator.deployments.repack FROM TO LARGEST`, where LARGEST is in bytes.

Prints one line of JSON: `{"project"}`, or `{"code", "message", "fields": [[path, message]]}`.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from coordinator import confined
from coordinator.archive import BadArchive, Entry, Writer, entries

CONFIG = "samovar.toml"
_LARGEST_CONFIG = 1024 * 1024
_PROJECT = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


class Wrong(Exception):
    """A field of samovar.toml is wrong."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.field = (path, message)


def repack(uploaded: Path, written: Path, largest: int) -> str:
    """Writes the source at `uploaded` to `written`; the project it is of. Raises BadArchive and Wrong."""
    config: bytes | None = None
    with uploaded.open("rb") as file, written.open("wb") as target:
        writer = Writer(target)
        for entry in entries(file, most_bytes=confined.SOURCE_BYTES, most_files=confined.SOURCE_FILES):
            if entry.name.as_posix() == CONFIG:
                config = _read(entry)
                # its content is read; it is written from what was
                entry = replace(entry, content=io.BytesIO(config))
            writer.add(entry)
            if target.tell() > largest:
                raise BadArchive(f"the project's source is larger than {largest} bytes", "source_too_large")
        writer.close()
        if target.tell() > largest:
            raise BadArchive(f"the project's source is larger than {largest} bytes", "source_too_large")
    if config is None:
        raise Wrong(CONFIG, "not in the archive: it belongs at its top")
    return project_of(config)


def project_of(config: bytes) -> str:
    """`[project] name` of a samovar.toml. Raises Wrong."""
    try:
        table = tomllib.loads(config.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Wrong(CONFIG, f"is not TOML: {error}") from None
    project = table.get("project")
    name = project.get("name") if isinstance(project, dict) else None
    if not isinstance(name, str):
        raise Wrong("project.name", f'missing in {CONFIG}: write [project] and name = "…"')
    if len(name) > 63 or not _PROJECT.fullmatch(name):
        raise Wrong(
            "project.name",
            f"{name[:80]!r} is no project name: lower-case letters, digits, and single '-', '_' or '.' between "
            "them, 63 at most",
        )
    return name


def _read(entry: Entry) -> bytes:
    if entry.kind != "file" or entry.size > _LARGEST_CONFIG:
        raise Wrong(CONFIG, f"has to be a file of at most {_LARGEST_CONFIG} bytes")
    assert entry.content is not None, "a file has content"
    return entry.content.read()


def main() -> int:
    confined.UPLOADS.enter()
    answer: dict[str, Any]
    try:
        answer = {"project": repack(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))}
    except BadArchive as error:
        answer = {"code": error.code, "message": f"the source cannot be used: {error.message}", "fields": []}
    except Wrong as error:
        answer = {"code": "invalid", "message": str(error), "fields": [error.field]}
    except MemoryError:
        answer = {
            "code": "bad_source",
            "message": "the source cannot be used: reading it takes more memory than any source may",
            "fields": [],
        }
    print(json.dumps(answer))
    return 0 if "project" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
