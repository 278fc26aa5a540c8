"""The uploaded source of a deployment, made into what is stored: an archive that this part wrote itself.

What somebody sent is read once, by a process of its own that may take a little memory and time and no more, and
written anew as every runner reads it. So the project that a source says it is of is decided here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from coordinator.confined import UPLOADS
from coordinator.foundation.errors import Invalid, TooLarge
from coordinator.foundation.limits import MAX_SOURCE
from coordinator.storage.blobs import Blobs
from coordinator.wire import FieldProblem

#: Sources that are read at a time, of all callers; each caller has one.
_AT_ONCE = 2


class Prepared(NamedTuple):
    """A source as it is stored: its blob and the project it is of."""

    blob: str
    project: str


class Uploads:
    """Takes sources in, a few at a time, and one at a time of each caller: nobody waits for another's large one
    longer than for one source.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._callers: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self, caller: str, uploaded: Path) -> Prepared:
        """Raises Invalid and TooLarge, with what is wrong with the source; StorageUnavailable."""
        lock = self._callers.get(caller)
        if lock is None:
            lock = self._callers[caller] = asyncio.Lock()
        async with lock, self._turns:
            with self._blobs.arriving() as written:
                project = await _repack(uploaded, written)
                return Prepared(await asyncio.to_thread(self._blobs.take, written), project)


async def _repack(uploaded: Path, written: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "coordinator.deployments.repack",
        str(uploaded),
        str(written),
        str(MAX_SOURCE),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # nothing of this process's own: keys stand in its environment
        env={name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
        cwd="/",
    )
    try:
        async with asyncio.timeout(UPLOADS.deadline):
            said, _ = await process.communicate()
    except TimeoutError:
        raise _bad(f"reading it takes longer than {UPLOADS.deadline:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        found = json.loads(said)
    except ValueError:
        raise _bad("reading it takes more memory or time than any source may") from None
    if "project" in found:
        return str(found["project"])
    if found["code"] == "source_too_large":
        raise TooLarge(found["message"], code=found["code"])
    fields = [FieldProblem(path=path, message=message) for path, message in found["fields"]]
    raise Invalid(found["message"], code=found["code"], fields=fields)


def _bad(why: str) -> Invalid:
    return Invalid(f"the source cannot be used: {why}", code="bad_source")
