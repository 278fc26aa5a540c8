"""The source as it was deployed: the project, and what it includes from beside it.

A place in it is written relative to the project, `..` and all, as the author writes it. What lies outside the
project is there only where `include` names it; the command line packs it under INCLUDED, by the number of steps up
and the rest of the way, so that two libraries stand to each other as they do at home.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from images.errors import ConfigError

#: Where an archive keeps what lies outside of the project's directory. `sdk/samovar/cli/pack.py` writes it.
INCLUDED = ".samovar-include"

#: Bytes of one file that are parsed: the host does it, and a parser takes its time.
LARGEST = 8 * 1024 * 1024


class Tree:
    """An unpacked source. `include` are the paths of samovar.toml."""

    def __init__(self, root: Path, include: list[str] | None = None) -> None:
        self.root = root.resolve()
        self.include = [posixpath.normpath(path) for path in include or []]

    def at(self, where: str) -> Path | None:
        """The file or directory at `where`, or None where it was not deployed (or is a link that leads out)."""
        where = posixpath.normpath(where)
        if posixpath.isabs(where):
            return None
        if outside(where) and not any(where == own or where.startswith(f"{own}/") for own in self.include):
            return None
        path = self.root / packed(where)
        real = path.resolve()
        return path if real.exists() and real.is_relative_to(self.root) else None

    def text(self, where: str) -> str:
        """The text of the file at `where`, which is there. Raises ConfigError where it is larger than LARGEST."""
        path = self.at(where)
        assert path is not None, "the caller looked"
        if path.stat().st_size > LARGEST:
            raise ConfigError(
                f"{where} is larger than the {LARGEST // 1024**2} MiB that are read of a file of dependencies",
                code="invalid_requirements",
                fields={where: f"{path.stat().st_size // 1024**2} MiB"},
            )
        return decode(path.read_bytes())

    def absence(self, where: str) -> str:
        """Why there is nothing at `where`, and what to do."""
        if where.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", where):
            return f"{where!r} is a path of one machine; name it relative to the project"
        where = posixpath.normpath(where)
        if outside(where) and not any(where == own or where.startswith(f"{own}/") for own in self.include):
            return (
                f"{where!r} is out of the project and is not deployed with it; "
                f'add include = ["{where}"] to [project] of samovar.toml'
            )
        return (
            f"{where!r} is not in the source that was deployed: is it there, and not ignored by .gitignore or "
            ".samovarignore? What lies beside the project is deployed with include of samovar.toml"
        )


def join(directory: str, path: str) -> str:
    """`path` as seen from `directory`, both relative to the project."""
    return posixpath.normpath(posixpath.join(directory, path.replace("\\", "/") if "/" not in path else path))


def outside(where: str) -> bool:
    return where == ".." or where.startswith("../")


def packed(where: str) -> str:
    """Where an archive keeps the normalised `where`: `../libs/common` is `.samovar-include/1/libs/common`."""
    parts = where.split("/")
    up = sum(1 for part in parts if part == "..")
    return "/".join([INCLUDED, str(up), *parts[up:]]) if up else where


def decode(data: bytes) -> str:
    """Text as editors and shells write it: UTF-8, with a byte order mark or without, or UTF-16 of PowerShell.

    What is none of them is taken as Latin-1: where it matters, in a requirement, the odd letter is refused later.
    """
    for mark, codec in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(codec, "replace")
    # without a mark every other byte of plain letters is zero
    if data[1:2] == b"\0":
        return data.decode("utf-16-le", "replace")
    if data[:1] == b"\0":
        return data.decode("utf-16-be", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with continuations joined, comments and needless blanks gone, each with its first line's number."""
    found: list[tuple[int, str]] = []
    held, start = "", 0
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = raw if held else re.sub(r"^\s*#.*", "", raw)
        start = start if held else number
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        whole = " ".join(re.sub(r"(^|\s)#.*$", "", held + line).split())
        held = ""
        if whole:
            found.append((start, whole))
    if whole := " ".join(held.split()):
        found.append((start, whole))
    return found
