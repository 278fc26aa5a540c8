"""What the steps of one build share, and the builders that they run: what one is lent, and what it may take."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from samovar.wire import IMAGE_ENVIRONMENT, TASK_UID

from images import names
from images.box import Box, Outcome
from images.container import Container
from images.dependencies import Plan
from images.dependencies.findings import Library
from images.dependencies.tree import INCLUDED
from images.docker_builder import Builder
from images.errors import InstallError
from images.host import HostNetwork, host_network
from images.install import (
    ANSWER,
    ASKING,
    BUILT,
    WORK,
    explain_backend,
    explain_pip,
)
from images.known import Known
from images.lines import Log
from images.settings import ImageSettings
from images.source import Layer, code_files
from images.steps import Steps
from images.stock import Missed, Stock, missed, remove_tree
from images.watch import measure
from images.way import PROXY, Out, Way, relay_files, relayed, way_out

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
    stock: Stock
    steps: Steps
    #: When all of the build's steps have to be over, of time.monotonic().
    deadline: float = field(default=float("inf"))
    #: What installs the dependencies.
    installer: Literal["uv", "pip"] = "uv"
    #: Opens the way out of the steps that download; None: they have Docker's bridge.
    way: Way | None = None

    @property
    def known(self) -> Known:
        """What was found out about images, by any build that has the same state."""
        return Known(self.state / "known")

    def network(self) -> HostNetwork:
        """How a step of the build reaches what it downloads."""
        found = host_network()
        return found if self.way is None else found.through(PROXY)

    def labels(self, kind: str) -> dict[str, str]:
        return names.labels(self.project, kind, {**self.settings.labels, **self.owner})

    def image_labels(self, kind: names.Kind) -> dict[str, str]:
        return names.labels(self.project, kind, self.settings.labels)


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
    plan: Plan,
    *,
    network: HostNetwork | None = None,
    hear: list[str] | None = None,
    asked: Sequence[Library] = (),
) -> Iterator[tuple[dict[str, bytes], Container, float]]:
    """Run `install.sh` in a builder on `image`: its users, the ended container, the seconds it took.

    With `network` it fetches, and nothing of the project runs; without, it has none. Lines that begin with ANSWER
    go into `hear`, and not into the log. Raises InstallError where it fails, Missed where that is for want of a
    package.
    """
    tail: list[str] = []
    tell = both(shop.log, tail)
    asking: list[str] = []

    def take(line: str) -> None:
        if hear is not None and line.startswith(ANSWER):
            hear.append(line.removeprefix(ANSWER))
        elif hear is not None and line.startswith(ASKING):
            asking.append(line.removeprefix(ASKING).strip())
        else:
            tell(line)

    reach = None if network is None else network.indexes()
    with lent(shop, files, network, trees) as binds, way_out(shop.way, reach) as out:
        box = box_of(shop, image, binds, out=out)
        with shop.builder.container(box) as container:
            users = users_of(container)
            container.put(_homestead(users))
            outcome = container.run(stdout=take, stderr=tell)
            check(shop, outcome, "the installation of dependencies")
            if outcome.exit_code != 0:
                error = explain_pip(tail, outcome.exit_code, plan)
                if asking and asked:
                    number = int(asking[-1]) if asking[-1].isdecimal() else 0
                    error = explain_backend(error, asked[min(number, len(asked) - 1)].where)
                if (requirement := missed(tail)) is not None:
                    raise Missed(requirement, error)
                raise error
            yield users, container, outcome.seconds


def check(shop: Workshop, outcome: Outcome, what: str) -> None:
    if outcome.timed_out:
        raise InstallError(
            f"{what} took longer than {shop.settings.build_timeout:g} s and was ended; "
            "the operator may allow more (build_timeout)",
            code="build_timeout",
        )
    if outcome.overran:
        raise InstallError(
            f"{what} took too much of the disk ({outcome.overran}) and was ended; the operator may allow more "
            "(build_disk, build_files)",
            code="build_disk",
        )
    if outcome.flooded:
        raise InstallError(
            f"{what} printed more than {shop.settings.build_output // 1024**2} MiB and was ended",
            code="build_output",
        )
    if outcome.out_of_memory:
        raise InstallError(
            f"{what} needed more than the {shop.settings.build_memory // 1024**2} MiB a build may take; "
            "the operator may allow more (build_memory)",
            code="build_out_of_memory",
        )


def box_of(
    shop: Workshop,
    image: str,
    binds: list[tuple[Path, str, bool]],
    *,
    user: str = f"{TASK_UID}:{TASK_UID}",
    capabilities: list[str] | None = None,
    out: Out | None = None,
) -> Box:
    """A builder that runs `install.sh`; `out` where it downloads."""
    command = ["/bin/sh", f"{LENT}/in/install.sh"]
    if out is not None and out.directory is not None:
        command = relayed(LENT, command)
        binds = [*binds, (out.directory, f"{LENT}/way", False)]
    return Box(
        image=image,
        command=command,
        labels=shop.labels("builder"),
        memory=shop.settings.build_memory,
        pids=shop.settings.build_pids,
        # of all steps together: a build is one thing to whoever waits for its place
        timeout=max(1.0, min(shop.settings.build_timeout, shop.deadline - time.monotonic())),
        user=user,
        seccomp=shop.settings.seccomp,
        output=shop.settings.build_output,
        disk=shop.settings.build_disk,
        files=shop.settings.build_files,
        largest_file=shop.settings.build_disk,
        network="bridge" if out is not None and out.directory is None else "none",
        capabilities=capabilities or [],
        tmpfs={"/tmp": "rw,nosuid,nodev,exec,size=256m,nr_inodes=100k,mode=1777"},
        binds=binds,
    )


@contextmanager
def lent(
    shop: Workshop, files: dict[str, bytes], network: HostNetwork | None, trees: dict[str, Path] | None = None
) -> Iterator[list[tuple[Path, str, bool]]]:
    """What the host lends to one builder: its files and the stock read-only; to one that fetches, the stock and the
    project's cache to write. So what runs a project's code writes nothing that another step or build takes up.
    """
    with handed(shop, files, trees or {}, network) as work:
        binds = [(work, f"{LENT}/in", False), (shop.stock.built, f"{LENT}/built", False)]
        binds.append((shop.stock.house, f"{LENT}/house", network is not None))
        yield [*binds, (store(shop, "fetched"), f"{LENT}/cache", True)] if network is not None else binds


@contextmanager
def handed(
    shop: Workshop, files: dict[str, bytes], trees: dict[str, Path], network: HostNetwork | None
) -> Iterator[Path]:
    """A directory with files, trees and the host's certificates for one builder, gone afterwards."""
    shop.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    # here, and not in /tmp: a runner in a container shares this directory with the host, and no other
    work = Path(tempfile.mkdtemp(prefix="in-", dir=shop.state))
    try:
        for name, data in (files if network is None or shop.way is None else {**files, **relay_files()}).items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(data)
        for name, root in trees.items():
            (work / name).mkdir(parents=True)
            for inner, path in _contents(root):
                (work / name / inner).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, work / name / inner)
        if network is not None and network.bundle is not None:
            shutil.copyfile(network.bundle, work / "ca.pem")
        # the builder's user is another one; the directory above is of this process alone
        for path in [work, *work.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        yield work
    finally:
        remove_tree(work)


def store(shop: Workshop, kind: str) -> Path:
    """The project's directory of what may be taken up by its next build, by the kind of builder that writes it."""
    directory = shop.state / "cache" / shop.project / kind
    for path in (shop.state, directory.parent.parent, directory.parent, directory):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    give(directory)
    return directory


def trim(shop: Workshop) -> None:
    """Begin the project's stores anew where they have grown past a quarter of what a build may have."""
    for kind in ("fetched", "compiled"):
        most = {"most_bytes": shop.settings.build_disk // 4, "most_files": shop.settings.build_files // 2}
        if said := measure([store(shop, kind)], **most):
            shop.log(f"what was kept of earlier builds ({kind}) is thrown away: {said}")
            remove_tree(store(shop, kind))


def give(directory: Path) -> None:
    """Let the builder's user write in `directory`, and nobody else where that can be had."""
    if os.geteuid() == 0:
        os.chown(directory, TASK_UID, TASK_UID)
    else:
        # a user cannot give files away; the directories above let nobody else in
        directory.chmod(0o777)


def users_of(container: Container) -> dict[str, bytes]:
    """The files of users and groups of a container's image, with the user of tasks in them."""
    passwd, group = container.read("/etc/passwd"), container.read("/etc/group")
    return {"etc/passwd": _with_line(passwd, _USER_LINE), "etc/group": _with_line(group, _GROUP_LINE)}


def _homestead(users: dict[str, bytes]) -> bytes:
    """What has to be in place before the user of tasks can make its virtual environment."""
    stream = io.BytesIO()
    layer = Layer(stream)
    for path, content in users.items():
        layer.file(path, content)
    for directory in (IMAGE_ENVIRONMENT, BUILT, WORK):
        layer.directory(directory.lstrip("/"), uid=TASK_UID)
    layer.close()
    return stream.getvalue()


def _with_line(content: bytes, line: str) -> bytes:
    number = line.split(":")[2].encode()
    if re.search(rb"(?m)^[^:\n]*:[^:\n]*:" + re.escape(number) + rb":", content):
        return content
    ended = content if content.endswith(b"\n") or not content else content + b"\n"
    return ended + line.encode()


def both(log: Log, tail: list[str]) -> Log:
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
