"""A throw-away container of a build."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from images.archive import ImageConfig, TooLarge, spool, too_large
from images.box import Box, Outcome
from images.docker_client import READ_TIMEOUT, APIError, NotFound, RequestException, speaking, split_name
from images.errors import BuildError
from images.lines import Lines, Log
from images.watch import Watch, stretch


class NotStarted(BuildError):
    """The engine could not start the container's program."""

    code = "not_started"


class Container:
    """A created container: put files in, run it once, commit it."""

    def __init__(self, api: Any, identifier: str, box: Box) -> None:
        self._api = api
        self._id = identifier
        self._box = box

    def put(self, archive: IO[bytes] | bytes) -> None:
        """Unpack a tar archive at the container's root."""
        with speaking():
            self._api.put_archive(self._id, "/", archive)

    def read(self, path: str, most: int = 1024 * 1024) -> bytes:
        """The file at `path` in the container, empty where there is none."""
        with speaking():
            try:
                stream, _ = self._api.get_archive(self._id, path)
            except NotFound:
                return b""
            data = b""
            for chunk in stream:
                data += chunk
                if len(data) > most:
                    raise BuildError(f"{path} in the image is larger than {most} bytes", code="base_image")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            member = tar.next()
            content = tar.extractfile(member) if member is not None and member.isreg() else None
            return content.read() if content is not None else b""

    def files(self, path: str, most: int = 4 * 1024 * 1024) -> dict[str, bytes]:
        """The regular files below the directory `path` in the container, by their last names.

        Raises BuildError where they have more than `most` bytes.
        """
        with speaking(), tempfile.TemporaryFile() as target:
            try:
                chunks = self.archived(path)
            except NotFound:
                return {}
            try:
                archive = spool(chunks, target, most)
            except TooLarge:
                raise BuildError(f"{path} in the image is larger than {most} bytes", code="base_image") from None
            finally:
                chunks.close()
            with tarfile.open(fileobj=archive, mode="r|") as tar:
                return {
                    member.name.rpartition("/")[2]: content.read()
                    for member in tar
                    if member.isreg() and (content := tar.extractfile(member)) is not None
                }

    def layer(self) -> Path | None:
        """Where the host keeps what this container writes, if this process sees it."""
        inspected = self._api.inspect_container(self._id)
        upper = (inspected.get("GraphDriver", {}).get("Data") or {}).get("UpperDir")
        return Path(upper) if upper and os.access(upper, os.R_OK | os.X_OK) else None

    def _watch(self, passed: Callable[[], None]) -> Watch | None:
        """What looks after the disk while it runs."""
        if self._box.disk is None:
            return None
        seen = [path for path, _, writable in self._box.binds if writable]
        layer = None if self._box.read_only else self.layer()
        # of a layer that is neither read-only nor seen the engine is asked
        ask = self._size if layer is None and not self._box.read_only else None
        roots = seen if layer is None else [layer, *seen]
        return Watch(roots, ask, most_bytes=self._box.disk, most_files=self._box.files, end=passed)

    def _size(self) -> int:
        try:
            url = self._api._url("/containers/{0}/json", self._id)
            answer = self._api._result(self._api._get(url, params={"size": "1"}), True)
            return int(answer.get("SizeRw") or 0)
        except (APIError, RequestException):
            return 0

    def run(self, *, stdout: Log, stderr: Log) -> Outcome:
        """Run the container's program to its end, each line of its output as it comes.

        Raises NotStarted where the program is not in the image or cannot be executed.
        """
        with speaking():
            stream = self._api.attach(self._id, stdout=True, stderr=True, stream=True, demux=True)
            began = time.monotonic()
            try:
                self._api.start(self._id)
            except APIError as error:
                raise NotStarted(f"the container could not start: {error.explanation}") from None
            passed = threading.Event()
            watchdog = threading.Timer(self._box.timeout, self._kill, [passed])
            watchdog.daemon = True
            watchdog.start()
            lines = (Lines(stdout), Lines(stderr))
            flooded = False
            watch = self._watch(lambda: self._kill(threading.Event()))
            try:
                for parts in stream:
                    for target, data in zip(lines, parts, strict=True):
                        if data:
                            target.feed(data)
                    if sum(target.fed for target in lines) > self._box.output:
                        flooded = True
                        break
                if flooded:
                    # Hung up before it is killed: the engine gives out what a container printed before it takes its
                    # end, holding its lock meanwhile, and would wait for this reader while this waits for that end.
                    _hang_up(stream)
                    self._kill(threading.Event())
                for target in lines:
                    target.end()
                code = int(self._api.wait(self._id, timeout=READ_TIMEOUT)["StatusCode"])
            finally:
                watchdog.cancel()
                _hang_up(stream)
                if watch is not None:
                    watch.close()
            state = self._api.inspect_container(self._id)["State"]
            return Outcome(
                exit_code=code,
                out_of_memory=bool(state.get("OOMKilled")),
                timed_out=passed.is_set(),
                flooded=flooded,
                overran=watch.overran if watch is not None else "",
                seconds=time.monotonic() - began,
            )

    def archived(self, path: str) -> Any:
        """The directory `path` as the engine sends it, in chunks of a tar archive."""
        chunks, _ = self._api.get_archive(self._id, path)
        return chunks

    def copy_out(self, path: str, most: int) -> IO[bytes]:
        """The directory `path` of the container as a tar archive, in a temporary file; close it.

        A sparse file comes out as all the zeros that it stands for: raises BuildError past `most` bytes. Where the
        engine's directories are seen that is known before it is asked for a byte.
        """
        target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
        with speaking():
            layer = self.layer()
            if layer is not None and stretch(layer / path.lstrip("/"), most) > most:
                target.close()
                raise too_large(most)
            chunks = self.archived(path)
            try:
                return spool(chunks, target, most)
            except TooLarge:
                raise too_large(most) from None
            finally:
                chunks.close()

    def export(self, most: int) -> IO[bytes]:
        """The whole file system as a tar archive, in a temporary file; close it. BuildError past `most` bytes."""
        target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
        with speaking():
            try:
                return spool(self._api.export(self._id), target, most)
            except TooLarge:
                raise BuildError(f"the image is larger than {most // 1024**2} MiB", code="base_too_large") from None

    def commit(self, name: str | None, config: ImageConfig) -> str:
        """Keep the container's whole file system as the image `name` (None: without one); gives the image's id."""
        repository, tag = split_name(name) if name is not None else (None, None)
        with speaking():
            committed = self._api.commit(self._id, repository=repository, tag=tag, conf=config.document())
            return str(committed["Id"])

    def _kill(self, passed: threading.Event) -> None:
        passed.set()
        with contextlib.suppress(APIError, RequestException):
            self._api.kill(self._id)


def _hang_up(stream: Any) -> None:
    # a second time it is an error of its own
    with contextlib.suppress(OSError):
        stream.close()
