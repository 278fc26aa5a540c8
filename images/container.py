"""A throw-away container of a build."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
import threading
import time
from typing import IO, Any

from images.archive import ImageConfig, spool
from images.box import Box, Outcome
from images.docker_client import READ_TIMEOUT, APIError, NotFound, RequestException, speaking, split_name
from images.errors import BuildError
from images.lines import Lines, Log


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
            try:
                for parts in stream:
                    for target, data in zip(lines, parts, strict=True):
                        if data:
                            target.feed(data)
                for target in lines:
                    target.end()
                code = int(self._api.wait(self._id, timeout=READ_TIMEOUT)["StatusCode"])
            finally:
                watchdog.cancel()
                stream.close()
            state = self._api.inspect_container(self._id)["State"]
            return Outcome(
                exit_code=code,
                out_of_memory=bool(state.get("OOMKilled")),
                timed_out=passed.is_set(),
                seconds=time.monotonic() - began,
            )

    def copy_out(self, path: str) -> IO[bytes]:
        """The directory `path` of the container as a tar archive, in a temporary file; close it."""
        target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
        with speaking():
            chunks, _ = self._api.get_archive(self._id, path)
            return spool(chunks, target)

    def commit(self, name: str, config: ImageConfig) -> str:
        """Keep the container's whole file system as the image `name`; gives the image's id."""
        repository, tag = split_name(name)
        with speaking():
            committed = self._api.commit(self._id, repository=repository, tag=tag, conf=config.document())
            return str(committed["Id"])

    def _kill(self, passed: threading.Event) -> None:
        passed.set()
        with contextlib.suppress(APIError, RequestException):
            self._api.kill(self._id)
