"""Dependencies installed by uv: resolved, fetched and unpacked with a network, compiled without one.

uv resolves and fetches in a tenth of pip's time. Of its work nothing runs a package: it takes wheels alone, and
unpacks them. The environment lies in a directory of the host, which is counted while it fills, and is packed from
there: nothing of it passes through the engine before it is a layer. Where uv cannot do what a project asks for, pip
does.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from samovar.wire import IMAGE_ENVIRONMENT

from images.box import Box
from images.dependencies import Plan
from images.errors import InstallError
from images.fetching import fetch_source
from images.stock import remove_tree
from images.uv_script import in_ways_of_uv, missing, uv_script, without_wheel
from images.way import way_out
from images.workshop import LENT, Workshop, both, box_of, check, handed, store, users_of

_COMPILE = Path(__file__).with_name("compile.py")
#: Packages that are built of their sources, for a project that is installed by uv.
_MOST_SOURCES = 60
#: Where a builder sees the project's store, so that the environment in it is at its place.
_ABOVE = str(PurePosixPath(IMAGE_ENVIRONMENT).parent)


@dataclass(frozen=True)
class Environment:
    """An installed environment: the directory of the host that it is in, and its image's files of users."""

    root: Path
    users: dict[str, bytes]


class _Failed(InstallError):
    """What uv said in the end: pip may do better."""

    def __init__(self, tail: list[str]) -> None:
        super().__init__(f"uv says: {' '.join(tail[-10:])}", code="uv_failed")
        self.tail = tail


@contextlib.contextmanager
def environment_by_uv(shop: Workshop, image: str, plan: Plan) -> Iterator[Environment | None]:
    """Install what `plan` asks for on `image`, and do not compile it; None where that has to be done by pip.

    Raises InstallError.
    """
    steps = in_ways_of_uv(plan)
    if steps is None:
        shop.log("pip installs: something has to be built of its source, or is the base's")
        yield None
        return
    program = uv_program(shop.state)
    if program is None:
        shop.log("pip installs: there is no uv on this host")
        yield None
        return
    # beside uv's cache, of whose files it holds links: those do not reach from one mount to another
    root = store(shop, "fetched") / PurePosixPath(IMAGE_ENVIRONMENT).name
    try:
        tried: set[str] = set()
        while True:
            _removed(shop, image, root)
            try:
                users = _install(shop, image, plan, steps, program, root)
                break
            except _Failed as failed:
                tail = failed.tail
            wanted = without_wheel(tail, plan)
            if wanted is None or wanted in tried or len(tried) == _MOST_SOURCES:
                _explain(tail, plan)
                shop.log("uv cannot install this, so pip does")
                yield None
                return
            tried.add(wanted)
            shop.log(f"{wanted} is published as a source alone")
            with shop.steps.step("building wheels"):
                fetch_source(shop, image, plan, wanted, InstallError(f"{wanted} could not be built: {tail[-1]}"))
        yield Environment(root, users)
    finally:
        _removed(shop, image, root)


def uv_program(state: Path) -> Path | None:
    """The directory with uv's program, for builders; None where this host has none.

    A copy below `state`: a runner in a container shares that directory with the host, and no other.
    """
    try:
        from uv import find_uv_bin

        source = Path(find_uv_bin())
        size = source.stat().st_size
        version = importlib.metadata.version("uv")
    except (ImportError, FileNotFoundError, importlib.metadata.PackageNotFoundError):
        return None
    target = state / "tools" / f"uv-{version}-{size}"
    if not (target / "uv").exists():
        target.mkdir(parents=True, exist_ok=True)
        unfinished = target / f"uv.{os.getpid()}"
        shutil.copyfile(source, unfinished)
        unfinished.chmod(0o755)
        unfinished.replace(target / "uv")
    target.chmod(0o755)
    return target


def _install(
    shop: Workshop,
    image: str,
    plan: Plan,
    steps: dict[str, tuple[bytes, list[str]]],
    program: Path,
    root: Path,
) -> dict[str, bytes]:
    """The users of the image. Raises _Failed where uv could not do it, InstallError where pip could not either."""
    network = shop.network()
    # a name of its own in each build: uv keeps a wheel in the project's cache by where it lay
    built = f"{LENT}/{shop.stock.root.name}"
    files = dict(plan.files)
    files |= {f"uv-{name}": text for name, (text, _) in steps.items()}
    files["install.sh"] = uv_script(plan, steps, network, LENT, built, f"{_ABOVE}/uv").encode()
    tail: list[str] = []
    tell = both(shop.log, tail)
    with (
        shop.steps.step("packages"),
        handed(shop, files, plan.trees, network) as given,
        way_out(shop.way, network.indexes()) as out,
    ):
        binds = [
            (given, f"{LENT}/in", False),
            (program, f"{LENT}/uv", False),
            (shop.stock.built, built, False),
            (root.parent, _ABOVE, True),
        ]
        box = replace(box_of(shop, image, binds, out=out), read_only=True)
        with shop.builder.container(box) as container:
            users = users_of(container)
            outcome = container.run(stdout=tell, stderr=tell)
            check(shop, outcome, "the installation of dependencies")
            if outcome.exit_code != 0:
                raise _Failed(tail or [f"exit code {outcome.exit_code}"])
    return users


def compile_environment(shop: Workshop, image: str, root: Path) -> None:
    """Compile what is installed below `root`, in a builder without a network on `image`. Raises InstallError.

    Logs nothing, so that it may go on in a thread.
    """
    with handed(shop, {"compile.py": _COMPILE.read_bytes()}, {}, None) as given:
        binds = [(given, f"{LENT}/in", False), (root, IMAGE_ENVIRONMENT, True)]
        binds.append((store(shop, "compiled"), f"{LENT}/compiled", True))
        box = replace(
            box_of(shop, image, binds),
            # the base's Python, in which nothing of the environment is imported
            command=[
                *("python3", "-I", "-S", "-W", "ignore"),
                f"{LENT}/in/compile.py",
                IMAGE_ENVIRONMENT,
                f"{LENT}/compiled",
            ],
            read_only=True,
        )
        with shop.builder.container(box) as container:
            outcome = container.run(stdout=lambda line: None, stderr=lambda line: None)
            check(shop, outcome, "the byte code of dependencies")


def _explain(tail: list[str], plan: Plan) -> None:
    """Raises InstallError where what uv says is as clear as what pip would say after it."""
    found = missing(tail)
    if found is None:
        return
    requirement, said = found
    name = requirement.partition("[")[0].partition("=")[0].strip("<>!~ ")
    place = plan.place_of(name)
    if place is None:
        return
    raise InstallError(
        f"the requirement {requirement!r} cannot be installed: no such package, or no version of it for this "
        f"Python. uv says: {said}",
        code="requirement_not_found",
        fields={place: f"{requirement!r}: {said}"},
    )


def _removed(shop: Workshop, image: str, root: Path) -> None:
    remove_tree(root)
    if root.exists() and os.geteuid() != 0:
        # what a builder's user made, only that user takes away
        box = Box(
            image,
            ["/bin/rm", "-rf", f"/tmp/left/{root.name}"],
            shop.labels("builder"),
            64 * 1024**2,
            16,
            60.0,
            binds=[(root.parent, "/tmp/left", True)],
            disk=None,
        )
        with shop.builder.container(box) as container:
            container.run(stdout=lambda line: None, stderr=lambda line: None)
