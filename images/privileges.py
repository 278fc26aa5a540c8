"""Files of a base that give who starts them another user's rights: not in an image that code runs in.

Containers have no-new-privileges in any case; this is for the day when something else is wrong. What is below an
image cannot be changed, so each such file is put on top again, without its bits. It is found in what the engine
exports of a container that never ran: nothing of the image is executed for it.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import threading
from typing import IO

from cachetools import LRUCache

from images.box import Box
from images.docker_builder import Builder
from images.errors import BaseError, BuildError
from images.known import Entry, Known, packed, unpacked
from images.names import labels

_SETUID_SETGID = 0o6000
_CAPABILITY = "SCHILY.xattr.security.capability"
#: Bytes of all such files together: a base has twenty of them, of a megabyte in all.
_MOST = 128 * 1024**2
#: What was found in an image, by its id, as a list of entries to put on top.
_found: LRUCache[str, list[Entry]] = LRUCache(maxsize=16)
_locks: LRUCache[str, threading.Lock] = LRUCache(maxsize=64)
_lock = threading.Lock()


def strip(builder: Builder, image: str, layer: tarfile.TarFile, most: int, known: Known) -> None:
    """Add to `layer`, which goes on top of `image`, its files with setuid, setgid or capabilities, without those.

    Raises BaseError where the files are more than anybody needs, and BuildError where the image has over `most`
    bytes.
    """
    for entry, content in _of(builder, image, most, known):
        layer.addfile(entry, io.BytesIO(content) if entry.isreg() else None)


def look_ahead(builder: Builder, image: str, most: int, known: Known) -> None:
    """Begin to look for what `strip` will ask for; what goes wrong is said there."""

    def look() -> None:
        with contextlib.suppress(BuildError):
            _of(builder, image, most, known)

    with _lock:
        found = image in _found
    if not found:
        threading.Thread(target=look, name="privileges", daemon=True).start()


def _of(builder: Builder, image: str, most: int, known: Known) -> list[Entry]:
    # one look at an image, whoever else waits for it
    with _lock:
        own = _locks.setdefault(image, threading.Lock())
    with own:
        with _lock:
            entries = _found.get(image)
        if entries is None:
            if (kept := known.get("privileges", image)) is not None:
                entries = unpacked(kept)
            else:
                box = Box(image, ["/bin/true"], labels("base", "builder"), 64 * 1024**2, 16, 1.0)
                with builder.container(box) as container, container.export(most) as stream:
                    entries = privileged(stream)
                known.put(packed(entries), "privileges", image)
            with _lock:
                _found[image] = entries
    return entries


def privileged(stream: IO[bytes]) -> list[Entry]:
    """The entries of a file system that have such rights, as they are without them."""
    entries: list[Entry] = []
    contents: dict[str, bytes] = {}
    links: list[tarfile.TarInfo] = []
    total = 0
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            special = bool(member.mode & _SETUID_SETGID) or _CAPABILITY in member.pax_headers
            if member.islnk() and (special or member.linkname in contents):
                links.append(member)
            elif special and member.isreg():
                total += member.size
                if total > _MOST:
                    raise BaseError(
                        f"the base image has more than {_MOST // 1024**2} MiB of files with setuid, setgid or "
                        "capabilities; take another, or take them out of it"
                    )
                content = tar.extractfile(member)
                contents[member.name] = content.read() if content is not None else b""
                entries.append((_plain(member, tarfile.REGTYPE), contents[member.name]))
            elif special and member.isdir():
                entries.append((_plain(member, tarfile.DIRTYPE), b""))
    for link in links:
        # a name more of a file that is put on top: alone it would go on naming the one below
        if (content_ := contents.get(link.linkname)) is not None:
            entry = _plain(link, tarfile.REGTYPE)
            entry.size = len(content_)
            entries.append((entry, content_))
    return entries


def _plain(member: tarfile.TarInfo, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(member.name)
    entry.type, entry.size = kind, member.size if kind == tarfile.REGTYPE else 0
    entry.mode = member.mode & 0o1777
    entry.uid, entry.gid, entry.mtime = member.uid, member.gid, int(member.mtime)
    return entry
