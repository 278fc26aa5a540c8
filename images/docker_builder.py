"""Everything of a build that speaks to Docker: throw-away containers, commits, pulls, imports.

A builder container runs code that somebody else wrote (a package's setup.py, a project's modules), so the
shape of one is a closed list: what is not in `Box` cannot be asked for. Nothing that a container is given for
its work, certificates, index passwords, the package cache, may end in the image it is committed to. That is
why environment variables are not set on containers (a commit copies them) and why everything bound from the
host lies below /tmp, which is a tmpfs: a bind's mount point would otherwise stay behind as an empty file.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import docker
import docker.errors
import docker.types
import requests.exceptions

from images.archive import ImageConfig, spool, write_archive
from images.errors import BuildError, DockerError

Log = Callable[[str], None]

#: The longest line taken from a container as one; the rest is cut.
_LONGEST_LINE = 16 * 1024 * 1024
_READ_TIMEOUT = 120


@dataclass(frozen=True)
class Box:
    """What a container of a build is given. Memory is bytes; swap is never given on top of it."""

    image: str
    command: list[str]
    labels: dict[str, str]
    memory: int
    pids: int
    timeout: float
    user: str = "65532:65532"
    network: Literal["none", "bridge"] = "none"
    capabilities: list[str] = field(default_factory=list)
    read_only: bool = False
    #: Directory in the container → mount options.
    tmpfs: dict[str, str] = field(default_factory=dict)
    #: Directory or file of the host, path in the container, whether it may be written.
    binds: list[tuple[Path, str, bool]] = field(default_factory=list)
    seccomp: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a container ended."""

    exit_code: int
    out_of_memory: bool
    timed_out: bool
    seconds: float


class NotStarted(BuildError):
    """The engine could not start the container's program."""

    code = "not_started"


class Builder:
    """One client of the Docker engine. Raises DockerError where the engine is away or refuses."""

    def __init__(self) -> None:
        with _speaking():
            self._docker = docker.from_env(version="auto", timeout=_READ_TIMEOUT)

    def close(self) -> None:
        self._docker.close()

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def image_id(self, name: str) -> str | None:
        """The content id of the image `name`, or None where the engine has none."""
        with _speaking():
            try:
                return str(self._docker.images.get(name).id)
            except docker.errors.ImageNotFound:
                return None

    def environment_of(self, image: str) -> list[str]:
        """The environment variables that `image` sets, as `NAME=value`."""
        with _speaking():
            config = self._docker.images.get(image).attrs.get("Config") or {}
            return list(config.get("Env") or [])

    def labels_of(self, image: str) -> dict[str, str]:
        """The labels of `image`; none where the engine has no such image."""
        with _speaking():
            try:
                return dict(self._docker.images.get(image).labels)
            except docker.errors.ImageNotFound:
                return {}

    def layers(self, labels: dict[str, str]) -> dict[str, tuple[dict[str, str], list[str]]]:
        """By name, the labels and the layers (from the bottom) of every image that carries all of `labels`."""
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with _speaking():
            return {
                name: (dict(image.labels), list(image.attrs["RootFS"].get("Layers") or []))
                for image in self._docker.images.list(filters=wanted)
                for name in image.tags
            }

    def pull(self, name: str, *, timeout: float, log: Log) -> str | None:
        """Pull `name` and give its id; None where no registry answers within `timeout` seconds.

        Raises BuildError where a registry answers and has no such image.
        """
        answered = threading.Event()
        result: list[BuildError | None] = []

        def work() -> None:
            try:
                result.append(self._pull(name, answered, log))
            finally:
                answered.set()

        thread = threading.Thread(target=work, name="pull", daemon=True)
        thread.start()
        if not answered.wait(timeout):
            return None
        thread.join()
        error = result[0] if result else None
        if error is not None:
            if error.problem.code == "registry_unreachable":
                return None
            raise error
        return self.image_id(name)

    def _pull(self, name: str, answered: threading.Event, log: Log) -> BuildError | None:
        # a registry that is away and one that says no look alike but for their words
        try:
            shown = ""
            for event in self._docker.api.pull(*_split(name), stream=True, decode=True):
                answered.set()
                if event.get("error"):
                    return BuildError(f"{name}: {event['error']}", code="base_image")
                if (status := event.get("status", "")) != shown and not event.get("id"):
                    shown = status
                    log(status)
            return None
        except (docker.errors.NotFound, docker.errors.ImageNotFound) as error:
            return BuildError(f"{name}: {error.explanation}", code="base_image")
        except docker.errors.APIError as error:
            text = str(error.explanation)
            if any(word in text for word in ("denied", "unauthorized", "manifest unknown")):
                return BuildError(f"{name}: {text}", code="base_image")
            return BuildError(text, code="registry_unreachable")
        except (requests.exceptions.RequestException, docker.errors.DockerException) as error:
            return BuildError(str(error), code="registry_unreachable")

    def import_tar(self, archive: Path, name: str, *, changes: list[str]) -> str:
        """Make the image `name` out of a root file system; `changes` are Dockerfile lines."""
        repository, tag = _split(name)
        with _speaking(), archive.open("rb") as stream:
            self._docker.api.import_image(stream, repository, tag, changes=changes)
            return str(self._docker.images.get(name).id)

    def append(self, parent: str, layer: IO[bytes], name: str, config: ImageConfig) -> str:
        """Make the image `name`: `parent` with the tar `layer` on top. Gives the image's id."""
        with _speaking():
            inspected = self._docker.images.get(parent).attrs
        with tempfile.TemporaryFile() as archive:
            expected = write_archive(archive, name=name, parent=inspected, layer=layer, config=config)
            if self._load(archive, expected):
                return expected
        # engines that keep images in another store want every layer in an archive; they commit fast
        box = Box(parent, ["/bin/true"], dict(config.labels), 64 * 1024**2, 16, 1.0)
        with self.container(box) as container:
            layer.seek(0)
            container.put(layer)
            return container.commit(name, config)

    def _load(self, archive: IO[bytes], expected: str) -> bool:
        try:
            for event in self._docker.api.load_image(archive):  # type: ignore[no-untyped-call]
                if "error" in event:
                    return False
        except docker.errors.APIError:
            return False
        except (requests.exceptions.RequestException, docker.errors.DockerException):
            with _speaking():
                raise
        return self.image_id(expected) == expected

    def remove_image(self, name: str) -> bool:
        """Take the image `name` away; False where there is none or a container still needs it."""
        with _speaking():
            try:
                self._docker.images.remove(name, noprune=False)
            except docker.errors.ImageNotFound:
                return False
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    return False
                raise
            return True

    def remove_containers(self, labels: dict[str, str]) -> int:
        """Remove every container that carries all of `labels`; how many there were."""
        with _speaking():
            wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
            found = self._docker.api.containers(all=True, filters=wanted)
            for container in found:
                self._remove(container["Id"])
            return len(found)

    @contextlib.contextmanager
    def container(self, box: Box) -> Iterator[Container]:
        """A container of the shape `box`, not yet started; it is gone afterwards, whatever happened."""
        with _speaking():
            identifier = self._create(box)
        try:
            yield Container(self._docker.api, identifier, box)
        finally:
            self._remove(identifier)

    def _create(self, box: Box) -> str:
        api = self._docker.api
        security = ["no-new-privileges"]
        if box.seccomp is not None:
            security.append(f"seccomp={box.seccomp}")
        host = api.create_host_config(
            cap_drop=["ALL"],
            cap_add=box.capabilities or None,
            security_opt=security,
            mem_limit=box.memory,
            memswap_limit=box.memory,
            pids_limit=box.pids,
            read_only=box.read_only,
            tmpfs=box.tmpfs or None,
            binds={
                str(path): {"bind": target, "mode": "rw" if writable else "ro"}
                for path, target, writable in box.binds
            },
            network_mode=box.network,
            ulimits=[
                docker.types.Ulimit(name="core", soft=0, hard=0),
                docker.types.Ulimit(name="nofile", soft=4096, hard=4096),
            ],
            # what a build prints would otherwise be kept on the host's disk, however much it is
            log_config=docker.types.LogConfig(type="none"),
            # a run of a task is worth more than a build
            cpu_shares=512,
            # as in a task's container: no /dev/shm or message queues that outlive a process
            ipc_mode="none",
        )
        created = api.create_container(
            box.image,
            command=box.command[1:],
            entrypoint=box.command[:1],
            user=box.user,
            working_dir="/",
            labels=box.labels,
            host_config=host,
            healthcheck={"test": ["NONE"]},
        )
        return str(created["Id"])

    def _remove(self, identifier: str) -> None:
        try:
            self._docker.api.remove_container(identifier, force=True, v=True)
        except docker.errors.APIError as error:
            # 404: it is gone; 409: its removal is under way
            if error.status_code not in {404, 409}:
                raise DockerError(f"a builder container could not be removed: {error.explanation}") from None
        except requests.exceptions.RequestException:
            # nothing to be done now; its labels let the runner find it when the engine is back
            return


class Container:
    """A created container: put files in, run it once, commit it."""

    def __init__(self, api: Any, identifier: str, box: Box) -> None:
        self._api = api
        self._id = identifier
        self._box = box

    def put(self, archive: IO[bytes] | bytes) -> None:
        """Unpack a tar archive at the container's root."""
        with _speaking():
            self._api.put_archive(self._id, "/", archive)

    def read(self, path: str, most: int = 1024 * 1024) -> bytes:
        """The file at `path` in the container, empty where there is none."""
        with _speaking():
            try:
                stream, _ = self._api.get_archive(self._id, path)
            except docker.errors.NotFound:
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
        with _speaking():
            stream = self._api.attach(self._id, stdout=True, stderr=True, stream=True, demux=True)
            began = time.monotonic()
            try:
                self._api.start(self._id)
            except docker.errors.APIError as error:
                raise NotStarted(f"the container could not start: {error.explanation}") from None
            passed = threading.Event()
            watchdog = threading.Timer(self._box.timeout, self._kill, [passed])
            watchdog.daemon = True
            watchdog.start()
            lines = (_Lines(stdout), _Lines(stderr))
            try:
                for parts in stream:
                    for target, data in zip(lines, parts, strict=True):
                        if data:
                            target.feed(data)
                for target in lines:
                    target.end()
                code = int(self._api.wait(self._id, timeout=_READ_TIMEOUT)["StatusCode"])
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
        with _speaking():
            chunks, _ = self._api.get_archive(self._id, path)
            return spool(chunks, target)

    def commit(self, name: str, config: ImageConfig) -> str:
        """Keep the container's whole file system as the image `name`; gives the image's id."""
        repository, tag = _split(name)
        with _speaking():
            committed = self._api.commit(self._id, repository=repository, tag=tag, conf=config.document())
            return str(committed["Id"])

    def _kill(self, passed: threading.Event) -> None:
        passed.set()
        with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
            self._api.kill(self._id)


class _Lines:
    """Bytes in, lines out; a line past the cap is cut, not gathered."""

    def __init__(self, sink: Log) -> None:
        self._sink = sink
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        first, *others = data.replace(b"\r\n", b"\n").split(b"\n")
        self._hold(first)
        for part in others:
            self._emit()
            self._hold(part)

    def end(self) -> None:
        if self._held:
            self._emit()

    def _hold(self, part: bytes) -> None:
        self._held += part[: max(0, _LONGEST_LINE - len(self._held))]

    def _emit(self) -> None:
        self._sink(self._held.decode("utf-8", "replace"))
        self._held.clear()


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """Turn what the client raises into what a build raises."""
    try:
        yield
    except docker.errors.APIError as error:
        raise DockerError(f"Docker refused: {error.explanation or error}") from error
    except (requests.exceptions.RequestException, docker.errors.DockerException) as error:
        raise DockerError(
            f"the Docker engine cannot be reached: {error}; is it running, and may this user use its socket?"
        ) from error


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        return name, "latest"
    return repository, tag
