"""Archives of projects, made up and spoiled: the reader gives entries or says why not, in little memory."""

from __future__ import annotations

import gzip
import io
import random
import resource
import tarfile
import tempfile
import time
from pathlib import Path

from coordinator.archive import BadArchive, entries
from coordinator.deployments.repack import Wrong, repack

_MOST_BYTES, _MOST_FILES = 4 * 1024**2, 1000
#: KiB that the process may grow by, after the first tries.
_GROWTH = 64 * 1024
#: Seconds of one archive of some kilobytes.
_LONGEST = 10.0
_KINDS = [bytes([kind]) for kind in b"01234567xgLKSVNADM\x00Z"]
_NAMES = [
    "samovar.toml",
    "./samovar.toml",
    "a/b",
    "a//b",
    "../x",
    "/x",
    "a/../b",
    "é",
    "\udcff",
    "x" * 300,
    "",
    ".",
    "a\n",
]
_HEADERS = [
    "path",
    "size",
    "linkpath",
    "GNU.sparse.major",
    "GNU.sparse.realsize",
    "GNU.sparse.map",
    "hdrcharset",
    "mtime",
]


def made_up(chance: random.Random) -> bytes:
    """A tar of some entries, with what a writer would not write."""
    buffer = io.BytesIO()
    form = chance.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for _ in range(chance.randrange(6)):
            entry = tarfile.TarInfo(chance.choice(_NAMES))
            entry.linkname = chance.choice(_NAMES)
            data = chance.randbytes(chance.choice([0, 1, 511, 512, 513, 3000]))
            entry.type = chance.choice(_KINDS) if chance.random() < 0.4 else tarfile.REGTYPE
            entry.size = len(data)
            if form == tarfile.PAX_FORMAT and chance.random() < 0.3:
                number = str(chance.choice([-1, 0, 1, 10**12, 10**30]))
                entry.pax_headers = {chance.choice(_HEADERS): number}
            try:
                tar.addfile(entry, io.BytesIO(data))
            except (ValueError, OSError, OverflowError):
                continue
    return buffer.getvalue()


def spoiled(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 2, 8])):
        if not changed:
            break
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.choice([1, 100, 512])]
            case 2:
                changed[at:at] = changed[: chance.choice([1, 512, 1024])]
            case _:
                # a checksum that holds, so that the reader goes on to the fields
                block = at // 512 * 512
                header = changed[block : block + 512]
                if len(header) == 512:
                    header[124:136] = chance.choice(
                        [b"77777777777\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"zzz" * 4]
                    )
                    header[148:156] = b" " * 8
                    header[148:156] = b"%06o\0 " % sum(header)
                    changed[block : block + 512] = header
    whole = bytes(changed)
    return gzip.compress(whole, 1)[: chance.choice([10, 10**9])] if chance.random() < 0.3 else whole


def fuzz(seconds: float) -> str:
    """Tries for so long; what was tried. Raises AssertionError with the seed of what broke."""
    end = time.monotonic() + seconds
    tries = good = first = 0
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "in", Path(directory) / "out"
        while time.monotonic() < end:
            chance = random.Random(tries)
            data = spoiled(chance, made_up(chance))
            source.write_bytes(data)
            began = time.monotonic()
            try:
                taken = 0
                for entry in entries(io.BytesIO(data), most_bytes=_MOST_BYTES, most_files=_MOST_FILES):
                    assert not entry.name.is_absolute(), f"archive {tries}"
                    assert ".." not in entry.name.parts, f"archive {tries}"
                    taken += len(entry.content.read()) if entry.content is not None else 0
                assert taken <= _MOST_BYTES, f"archive {tries}: {taken} bytes"
                good += 1
            except BadArchive:
                pass
            except Exception as error:
                raise AssertionError(f"archive {tries}: {error!r}") from error
            try:
                repack(source, target, _MOST_BYTES)
            except (BadArchive, Wrong):
                pass
            except Exception as error:
                raise AssertionError(f"repacking archive {tries}: {error!r}") from error
            assert time.monotonic() - began < _LONGEST, f"archive {tries} takes long"
            tries += 1
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            first = first or (peak if tries == 200 else 0)
            assert not first or peak - first < _GROWTH, f"archive {tries}: {peak - first} KiB more"
    return f"{tries} archives, {good} of them good"
