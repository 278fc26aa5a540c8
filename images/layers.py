"""The layers of a project's image, each an image of its own, named by its content and made only once.

base            Python, pip and venv                                  images/base.py
apt             + Debian packages, where the project asks for some
dependencies    + the virtual environment with the requirements
libraries       + packages that lie in the source itself, where there are some
deployment      + the SDK, the project's code, the manifest           images/deployment.py
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from samovar.wire import IMAGE_CODE, IMAGE_ENVIRONMENT, IMAGE_SDK, TASK_UID

from images import names
from images.archive import ImageConfig, take_tree
from images.base import Base
from images.box import Box, Outcome
from images.config import Config
from images.container import Container
from images.dependencies import Plan
from images.dependencies.findings import Library
from images.dependencies.tree import INCLUDED
from images.docker_builder import Builder
from images.errors import InstallError
from images.host import HostNetwork, host_network
from images.install import (
    ANSWER,
    APT_CAPABILITIES,
    ASKING,
    BUILT,
    apt_script,
    explain_apt,
    explain_backend,
    explain_pip,
    libraries_script,
    pip_script,
)
from images.lines import Log
from images.settings import ImageSettings
from images.source import Layer, code_files

#: Where a builder sees what the host lends it; a tmpfs lies over /tmp, so nothing of it stays.
LENT = "/tmp/samovar"
HOME = "/home/task"

_USER_LINE = f"task:x:{TASK_UID}:{TASK_UID}:task:{HOME}:/usr/sbin/nologin\n"
_GROUP_LINE = f"task:x:{TASK_UID}:\n"


@dataclass(frozen=True)
class Workshop:
    """What the steps of one build share."""

    builder: Builder
    project: str
    state: Path
    settings: ImageSettings
    log: Log
    #: Labels by which a runner finds the containers of a build that died with it.
    owner: dict[str, str]

    def labels(self, kind: str) -> dict[str, str]:
        return names.labels(self.project, kind, {**self.settings.labels, **self.owner})

    def image_labels(self, kind: names.Kind) -> dict[str, str]:
        return names.labels(self.project, kind, self.settings.labels)


def with_packages(shop: Workshop, base: Base, config: Config) -> str:
    """The image of `base` with the project's Debian packages, or the base itself where it asks for none."""
    packages = sorted(set(config.project.apt))
    if not packages:
        return base.id
    image = names.image_name(shop.project, "apt", [base.id, *packages])
    if shop.builder.image_id(image) is not None:
        shop.log(f"Debian packages are as before ({image})")
        return image
    shop.log(f"installing Debian packages: {', '.join(packages)}")
    network = host_network()
    files = {"install.sh": apt_script(packages, LENT, network).encode()}
    tail: list[str] = []
    with _lent(shop, files, network) as binds:
        box = _box(shop, base.id, binds, user="0:0", capabilities=APT_CAPABILITIES)
        with shop.builder.container(box) as container:
            outcome = container.run(stdout=_both(shop.log, tail), stderr=_both(shop.log, tail))
            _check(shop, outcome, "the installation of Debian packages")
            if outcome.exit_code != 0:
                raise explain_apt(tail, outcome.exit_code)
            environment = shop.builder.environment_of(base.id)
            # a commit copies the container's labels, and an image belongs to no build
            labels = {**shop.image_labels("apt"), **dict.fromkeys(shop.owner, "")}
            container.commit(image, ImageConfig(labels, environment))
    shop.log(f"Debian packages installed in {outcome.seconds:.1f} s")
    return image


def with_dependencies(shop: Workshop, below: str, plan: Plan) -> str:
    """The image of `below` with the project's virtual environment."""
    identifier = identifier_of(shop, below)
    for line in plan.left_out:
        shop.log(f"leaving out {line}: the image brings its own Samovar SDK")
    image = names.image_name(shop.project, "dependencies", [identifier, *plan.key(tree_parts)])
    if shop.builder.image_id(image) is not None:
        shop.log(f"dependencies are as before ({image})")
        return image
    source = plan.source or "the included libraries"
    shop.log("no dependencies" if plan.empty else f"installing the dependencies of {source}")
    network = host_network()
    for setting in [] if plan.empty else network.left_out:
        shop.log(f"{setting} names a path of this host; a build does not see it")
    files = {"install.sh": pip_script(plan, LENT, network).encode(), **plan.files}
    installed = ran(shop, identifier, files, plan.trees, network, plan, alone=plan.empty)
    with installed as (users, container, taken):
        # the environment and nothing else is taken out of the builder
        with container.copy_out(IMAGE_ENVIRONMENT) as environment, tempfile.TemporaryFile() as stream:
            layer = Layer(stream)
            for path, content in users.items():
                layer.file(path, content)
            layer.directory(HOME.lstrip("/"), uid=TASK_UID, mode=0o700)
            for directory in (IMAGE_SDK, IMAGE_CODE):
                layer.directory(directory.lstrip("/"))
            take_tree(environment, layer.tar, target=IMAGE_ENVIRONMENT.lstrip("/"))
            _append(shop, "dependencies", identifier, layer, stream, image)
    shop.log(f"dependencies installed in {taken:.1f} s ({image})")
    return image


def with_libraries(shop: Workshop, below: str, plan: Plan) -> str:
    """The image of `below` with the packages that lie in the source itself; `below` where there are none.

    A layer of its own: these change as code does, and what they need does not.
    """
    if not plan.libraries:
        return below
    identifier = identifier_of(shop, below)
    trees = {f"src/{number}": library.path for number, library in enumerate(plan.libraries)}
    parts = [part for path in trees.values() for part in [b"library", *tree_parts(path)]]
    image = names.image_name(shop.project, "libraries", [identifier, *parts])
    shown = ", ".join(library.where for library in plan.libraries)
    if shop.builder.image_id(image) is not None:
        shop.log(f"libraries are as before: {shown} ({image})")
        return image
    shop.log(f"installing {shown}")
    network = host_network()
    files = {"install.sh": libraries_script(len(trees), LENT, network).encode()}
    with ran(shop, identifier, files, trees, network, plan) as (_, container, taken):
        built = f"{BUILT}{IMAGE_ENVIRONMENT}"
        with container.copy_out(built) as environment, tempfile.TemporaryFile() as stream:
            layer = Layer(stream)
            take_tree(environment, layer.tar, target=IMAGE_ENVIRONMENT.lstrip("/"))
            _append(shop, "libraries", identifier, layer, stream, image)
    shop.log(f"{shown} installed in {taken:.1f} s ({image})")
    return image


def tree_parts(root: Path) -> list[bytes]:
    """Parts to hash of what `root` hands to a builder."""
    parts: list[bytes] = []
    for name, path in _contents(root):
        mode = b"program" if path.stat().st_mode & 0o100 else b"file"
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        parts += [name.encode("utf-8", "surrogateescape"), mode, content]
    return parts


def _contents(root: Path) -> Iterator[tuple[str, Path]]:
    """The files of a directory for a builder; of links those to files, as which they are given."""
    for path in code_files(root):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(f"{INCLUDED}/"):
            yield name, path


def identifier_of(shop: Workshop, image: str) -> str:
    identifier = shop.builder.image_id(image)
    if identifier is None:
        raise InstallError(f"the image {image} has gone while it was being built on; deploy again")
    return identifier


@contextmanager
def ran(
    shop: Workshop,
    image: str,
    files: dict[str, bytes],
    trees: dict[str, Path],
    network: HostNetwork,
    plan: Plan,
    *,
    alone: bool = False,
    hear: list[str] | None = None,
    asked: Sequence[Library] = (),
) -> Iterator[tuple[dict[str, bytes], Container, float]]:
    """Run `install.sh` in a builder on `image`: its users, the ended container, the seconds it took.

    Lines that begin with ANSWER go into `hear`, and not into the log. Raises InstallError where it fails.
    """
    tail: list[str] = []
    tell = _both(shop.log, tail)
    asking: list[str] = []

    def take(line: str) -> None:
        if hear is not None and line.startswith(ANSWER):
            hear.append(line.removeprefix(ANSWER))
        elif hear is not None and line.startswith(ASKING):
            asking.append(line.removeprefix(ASKING).strip())
        else:
            tell(line)

    with _lent(shop, files, network, trees) as binds:
        box = _box(shop, image, binds, network_name="none" if alone else "bridge")
        with shop.builder.container(box) as container:
            users = _users(container.read("/etc/passwd"), container.read("/etc/group"))
            container.put(_homestead(users))
            outcome = container.run(stdout=take, stderr=tell)
            _check(shop, outcome, "the installation of dependencies")
            if outcome.exit_code != 0:
                error = explain_pip(tail, outcome.exit_code, plan)
                if asking and asked:
                    raise explain_backend(error, asked[min(int(asking[-1]), len(asked) - 1)].where)
                raise error
            yield users, container, outcome.seconds


def _append(shop: Workshop, kind: names.Kind, below: str, layer: Layer, stream: IO[bytes], image: str) -> None:
    layer.close()
    config = ImageConfig(shop.image_labels(kind), shop.builder.environment_of(below), user=f"{TASK_UID}:{TASK_UID}")
    shop.builder.append(below, stream, image, config)


def _check(shop: Workshop, outcome: Outcome, what: str) -> None:
    if outcome.timed_out:
        raise InstallError(
            f"{what} took longer than {shop.settings.build_timeout:g} s and was ended; "
            "the operator may allow more (build_timeout)",
            code="build_timeout",
        )
    if outcome.out_of_memory:
        raise InstallError(
            f"{what} needed more than the {shop.settings.build_memory // 1024**2} MiB a build may take; "
            "the operator may allow more (build_memory)",
            code="build_out_of_memory",
        )


def _box(
    shop: Workshop,
    image: str,
    binds: list[tuple[Path, str, bool]],
    *,
    user: str = f"{TASK_UID}:{TASK_UID}",
    capabilities: list[str] | None = None,
    network_name: str = "bridge",
) -> Box:
    return Box(
        image=image,
        command=["/bin/sh", f"{LENT}/in/install.sh"],
        labels=shop.labels("builder"),
        memory=shop.settings.build_memory,
        pids=shop.settings.build_pids,
        timeout=shop.settings.build_timeout,
        user=user,
        network="none" if network_name == "none" else "bridge",
        capabilities=capabilities or [],
        tmpfs={"/tmp": "rw,nosuid,nodev,exec,size=256m,nr_inodes=100k,mode=1777"},
        binds=binds,
    )


@contextmanager
def _lent(
    shop: Workshop, files: dict[str, bytes], network: HostNetwork, trees: dict[str, Path] | None = None
) -> Iterator[list[tuple[Path, str, bool]]]:
    """What the host lends to one builder: its files read-only, and the project's package cache."""
    cache = shop.state / "cache" / shop.project
    for directory in (shop.state, cache.parent, cache):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # packages are unpacked on the disk, beside the cache: a tmpfs would count against the memory
    scratch = Path(tempfile.mkdtemp(prefix="build-", dir=cache))
    # here too, and not in /tmp: a runner in a container shares this directory with the host, and no other
    work = Path(tempfile.mkdtemp(prefix="in-", dir=shop.state))
    try:
        for directory in (cache, scratch):
            _give(directory)
        for name, data in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(data)
        for name, root in (trees or {}).items():
            (work / name).mkdir(parents=True)
            for inner, path in _contents(root):
                (work / name / inner).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, work / name / inner)
        if network.bundle is not None:
            shutil.copyfile(network.bundle, work / "ca.pem")
        # the builder's user is another one; the directory above is of this process alone
        for path in [work, *work.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        yield [(work, f"{LENT}/in", False), (cache, f"{LENT}/cache", True), (scratch, f"{LENT}/work", True)]
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _give(directory: Path) -> None:
    """Let the builder's user write in `directory`, and nobody else where that can be had."""
    if os.geteuid() == 0:
        os.chown(directory, TASK_UID, TASK_UID)
    else:
        # a user cannot give files away; the directories above let nobody else in
        directory.chmod(0o777)


def _users(passwd: bytes, group: bytes) -> dict[str, bytes]:
    return {"etc/passwd": _with_line(passwd, _USER_LINE), "etc/group": _with_line(group, _GROUP_LINE)}


def _homestead(users: dict[str, bytes]) -> bytes:
    """What has to be in place before the user of tasks can make its virtual environment."""
    stream = io.BytesIO()
    layer = Layer(stream)
    for path, content in users.items():
        layer.file(path, content)
    for directory in (IMAGE_ENVIRONMENT, BUILT):
        layer.directory(directory.lstrip("/"), uid=TASK_UID)
    layer.close()
    return stream.getvalue()


def _with_line(content: bytes, line: str) -> bytes:
    number = line.split(":")[2].encode()
    if re.search(rb"(?m)^[^:\n]*:[^:\n]*:" + re.escape(number) + rb":", content):
        return content
    ended = content if content.endswith(b"\n") or not content else content + b"\n"
    return ended + line.encode()


def _both(log: Log, tail: list[str]) -> Log:
    def take(line: str) -> None:
        text = line.rstrip()
        if not text:
            return
        tail.append(text[:4000])
        # a package that prints without end must not fill the memory of the runner
        if len(tail) > 500:
            del tail[:250]
        log(text[:4000])

    return take
