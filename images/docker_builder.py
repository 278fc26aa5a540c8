"""Everything of a build that speaks to Docker: throw-away containers, commits, pulls, imports.

A builder container runs code that somebody else wrote (a package's setup.py, a project's modules), so the
shape of one is a closed list: what is not in `Box` cannot be asked for. Nothing that a container is given for
its work, certificates, index passwords, the package cache, may end in the image it is committed to. That is
why environment variables are not set on containers (a commit copies them) and why everything bound from the
host lies below /tmp, which is a tmpfs: a bind's mount point would otherwise stay behind as an empty file.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from images.allowed import Reference
from images.archive import ImageConfig, Packed, archive_of
from images.box import Box
from images.container import Container
from images.docker_client import (
    APIError,
    DockerException,
    ImageNotFound,
    LogConfig,
    NotFound,
    RequestException,
    Ulimit,
    connect,
    speaking,
    split_name,
)
from images.errors import BaseError, BuildError, DockerError
from images.lines import Log


class Builder:
    """One client of the Docker engine. Raises DockerError where the engine is away or refuses."""

    def __init__(self) -> None:
        self._docker = connect()

    def close(self) -> None:
        self._docker.close()

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def image_id(self, name: str) -> str | None:
        """The content id of the image `name`, or None where the engine has none."""
        with speaking():
            try:
                return str(self._docker.images.get(name).id)
            except ImageNotFound:
                return None

    def environment_of(self, image: str) -> list[str]:
        """The environment variables that `image` sets, as `NAME=value`."""
        with speaking():
            config = self._docker.images.get(image).attrs.get("Config") or {}
            return list(config.get("Env") or [])

    def labels_of(self, image: str) -> dict[str, str]:
        """The labels of `image`; none where the engine has no such image."""
        with speaking():
            try:
                return dict(self._docker.images.get(image).labels)
            except ImageNotFound:
                return {}

    def layers(self, labels: dict[str, str]) -> dict[str, tuple[dict[str, str], list[str]]]:
        """By name, the labels and the layers (from the bottom) of every image that carries all of `labels`."""
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with speaking():
            return {
                name: (dict(image.labels), list(image.attrs["RootFS"].get("Layers") or []))
                for image in self._docker.images.list(filters=wanted)
                for name in image.tags
            }

    def size_of(self, image: str) -> int:
        """Bytes of `image` as it is unpacked, with all that is below it."""
        with speaking():
            return int(self._docker.images.get(image).attrs.get("Size") or 0)

    def pull(self, asked: Reference, *, timeout: float, most: int, within: float, log: Log) -> str | None:
        """Pull an image and give its id; None where no registry answers within `timeout` seconds.

        Raises BuildError where a registry answers and has no such image, has more than `most` bytes of it, or has
        not sent it `within` seconds.
        """
        pull = _Pull(self._docker.api, asked, most, log)
        thread = threading.Thread(target=pull.run, name="pull", daemon=True)
        thread.start()
        if not pull.answered.wait(timeout):
            pull.ended.set()
            return None
        thread.join(within)
        if thread.is_alive():
            pull.ended.set()
            raise BaseError(
                f"{asked.name} was not pulled within {within:g} s; pull it on this host with docker pull, or ask "
                "the operator for more time (pull_timeout)",
                code="base_image",
            )
        if pull.error is not None:
            if pull.error.problem.code == "registry_unreachable":
                return None
            raise pull.error
        return self.image_id(asked.name)

    def import_tar(self, archive: Path, name: str, *, changes: list[str]) -> str:
        """Make the image `name` out of a root file system; `changes` are Dockerfile lines."""
        repository, tag = split_name(name)
        with speaking(), archive.open("rb") as stream:
            self._docker.api.import_image(stream, repository, tag, changes=changes)
            return str(self._docker.images.get(name).id)

    def append(self, parent: str, layers: Sequence[Packed], name: str | None, config: ImageConfig) -> str:
        """Make the image `name` (None: without one): `parent` with `layers` on top. Gives the image's id.

        What the engine has of them on that parent already, in an image with the same labels of ours, is not sent.
        """
        with speaking():
            inspected = self._docker.images.get(parent).attrs
        there = self._there(inspected, layers, config.labels) if len(layers) > 1 else 0
        expected, archive = archive_of(name=name, parent=inspected, layers=layers, there=there, config=config)
        if self._load(archive, expected):
            return expected
        # engines that keep images in another store want every layer in an archive; they commit fast
        box = Box(parent, ["/bin/true"], dict(config.labels), 64 * 1024**2, 16, 1.0)
        with self.container(box) as container:
            for layer in layers:
                layer.stream.seek(0)
                container.put(layer.stream)
            return container.commit(name, config)

    def append_early(self, parent: str, layer: Packed, config: ImageConfig) -> str | None:
        """Have the engine take in `layer` on `parent` ahead of those that go on top of it.

        Gives the id of an image without a name, to be removed afterwards; None where the engine has the layer, or
        takes in none by itself.
        """
        with speaking():
            inspected = self._docker.images.get(parent).attrs
        # as if another were to come
        if self._there(inspected, [layer, layer], config.labels):
            return None
        expected, archive = archive_of(name=None, parent=inspected, layers=[layer], config=config)
        return expected if self._load(archive, expected) else None

    def _there(self, parent: dict[str, Any], layers: Sequence[Packed], labels: dict[str, str]) -> int:
        """How many of `layers` the engine has on `parent`; the last is never counted."""
        below = list(parent["RootFS"]["Layers"])
        most = 0
        with speaking():
            wanted = [f"{label}={value}" for label, value in labels.items()]
            for image in self._docker.images.list(filters={"label": wanted}):
                found = image.attrs["RootFS"].get("Layers") or []
                count = 0
                while count < len(layers) - 1 and found[: len(below) + count + 1] == [
                    *below,
                    *(layer.digest for layer in layers[: count + 1]),
                ]:
                    count += 1
                most = max(most, count)
        return most

    def _load(self, archive: Iterator[bytes], expected: str) -> bool:
        try:
            for event in self._docker.api.load_image(archive):  # type: ignore[no-untyped-call]
                if "error" in event:
                    return False
        except APIError:
            return False
        except (RequestException, DockerException):
            with speaking():
                raise
        return self.image_id(expected) == expected

    def remove_image(self, name: str) -> bool:
        """Take the image `name` away; False where there is none or a container still needs it."""
        with speaking():
            try:
                self._docker.images.remove(name, noprune=False)
            except ImageNotFound:
                return False
            except APIError as error:
                if error.status_code == 409:
                    return False
                raise
            return True

    def remove_containers(self, labels: dict[str, str]) -> int:
        """Remove every container that carries all of `labels`; how many there were."""
        with speaking():
            wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
            found = self._docker.api.containers(all=True, filters=wanted)
            for container in found:
                self._remove(container["Id"])
            return len(found)

    @contextlib.contextmanager
    def container(self, box: Box) -> Iterator[Container]:
        """A container of the shape `box`, not yet started; it is gone afterwards, whatever happened."""
        with speaking():
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
            extra_hosts={box.hostname: "127.0.0.1"} if box.hostname is not None else None,
            ulimits=[
                Ulimit(name="core", soft=0, hard=0),
                Ulimit(name="nofile", soft=4096, hard=4096),
                Ulimit(name="fsize", soft=box.largest_file, hard=box.largest_file),
            ],
            # what a build prints would otherwise be kept on the host's disk, however much it is
            log_config=LogConfig(type="none"),
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
            working_dir=box.directory,
            environment=box.environment or None,
            hostname=box.hostname,
            labels=box.labels,
            host_config=host,
            healthcheck={"test": ["NONE"]},
        )
        return str(created["Id"])

    def _remove(self, identifier: str) -> None:
        try:
            self._docker.api.remove_container(identifier, force=True, v=True)
        except APIError as error:
            # 404: it is gone; 409: its removal is under way
            if error.status_code not in {404, 409}:
                raise DockerError(f"a builder container could not be removed: {error.explanation}") from None
        except RequestException:
            # nothing to be done now; its labels let the runner find it when the engine is back
            return


class _Pull:
    """One pull, in a thread of its own: an engine may take long to say anything at all."""

    def __init__(self, api: Any, asked: Reference, most: int, log: Log) -> None:
        self._api, self._asked, self._most, self._log = api, asked, most, log
        self.answered = threading.Event()
        self.ended = threading.Event()
        self.error: BuildError | None = None

    def run(self) -> None:
        try:
            self.error = self._pull()
        finally:
            self.answered.set()

    def _pull(self) -> BuildError | None:
        # a registry that is away and one that says no look alike but for their words
        name, (repository, tag) = self._asked.name, split_name(self._asked.name)
        try:
            stream = self._api.pull(repository, tag=tag, stream=True, decode=True)
            with contextlib.closing(stream):
                return self._follow(stream)
        except (NotFound, ImageNotFound) as error:
            return BaseError(f"{name}: {error.explanation}")
        except APIError as error:
            text = str(error.explanation)
            if any(word in text for word in ("denied", "unauthorized", "manifest unknown")):
                return BaseError(f"{name}: {text}")
            return BuildError(text, code="registry_unreachable")
        except (RequestException, DockerException) as error:
            return BuildError(str(error), code="registry_unreachable")

    def _follow(self, stream: Iterator[dict[str, Any]]) -> BuildError | None:
        name, shown = self._asked.name, ""
        sizes: dict[str, int] = {}
        for event in stream:
            self.answered.set()
            if self.ended.is_set():
                return BaseError(f"{name}: the pull was given up")
            if event.get("error"):
                return BaseError(f"{name}: {event['error']}")
            progress = event.get("progressDetail") or {}
            if event.get("id") and (told := max(progress.get("total") or 0, progress.get("current") or 0)):
                # a layer is named with its size when its first bytes come; who stops reading ends the pull
                sizes[event["id"]] = max(told, sizes.get(event["id"], 0))
                if sum(sizes.values()) > self._most:
                    return BaseError(
                        f"the base image {name!r} is larger than the {self._most // 1024**2} MiB that may be "
                        "pulled; take a smaller one, or ask the operator for more: policy.toml, [images] base_size",
                        code="base_too_large",
                    )
            if (status := event.get("status", "")) != shown and not event.get("id"):
                shown = status
                self._log(status)
        return None
