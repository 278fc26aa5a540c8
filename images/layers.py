"""The layers of a project's image, each an image of its own, named by its content and made only once.

base            Python, pip and venv                                  images/base.py
apt             + Debian packages, where the project asks for some
dependencies    + the virtual environment with the requirements
libraries       + packages that lie in the source itself, where there are some
deployment      + the SDK, the project's code, the manifest           images/deployment.py
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from samovar.wire import IMAGE_CODE, IMAGE_ENVIRONMENT, IMAGE_SDK, TASK_UID

from images import names, privileges
from images.archive import ImageConfig, Packed, large_parts, pack_tree, take_tree
from images.base import Base
from images.box import Box
from images.config import Config
from images.dependencies import Plan
from images.fetching import fetched, worked
from images.host import Reach, host_network, host_sources, repositories
from images.install import (
    APT_CAPABILITIES,
    BUILT,
    apt_script,
    explain_apt,
    libraries_script,
    pip_script,
)
from images.source import Layer
from images.uv_installer import Environment, compile_environment, environment_by_uv
from images.way import way_out
from images.workshop import HOME, LENT, Workshop, both, box_of, check, identifier_of, lent, tree_parts

#: Bytes from which on a package is in the layer of those that are large.
_LARGE = 4 * 1024**2


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
    network = shop.network()
    files = {"install.sh": apt_script(packages, LENT, network).encode()}
    tail: list[str] = []
    with lent(shop, files, network) as binds, way_out(shop.way, _repositories(shop, base.id)) as out:
        box = box_of(shop, base.id, binds, user="0:0", capabilities=APT_CAPABILITIES, out=out)
        with shop.builder.container(box) as container:
            outcome = container.run(stdout=both(shop.log, tail), stderr=both(shop.log, tail))
            check(shop, outcome, "the installation of Debian packages")
            if outcome.exit_code != 0:
                raise explain_apt(tail, outcome.exit_code)
            environment = shop.builder.environment_of(base.id)
            # a commit copies the container's labels, and an image belongs to no build
            labels = {**shop.image_labels("apt"), **dict.fromkeys(shop.owner, "")}
            container.commit(image, ImageConfig(labels, environment))
    shop.log(f"Debian packages installed in {outcome.seconds:.1f} s")
    return image


def _repositories(shop: Workshop, base: str) -> Reach:
    """Where apt goes on `base`: to what its files name, at any address where this host's own apt goes there too."""
    box = Box(base, ["/bin/true"], shop.labels("builder"), 64 * 1024**2, 16, 1.0)
    with shop.builder.container(box) as container:
        found = container.files("/etc/apt")
    hosts = repositories({name: data.decode("utf-8", "replace") for name, data in found.items()})
    return Reach(tuple(hosts), tuple(host_sources()))


def with_dependencies(shop: Workshop, below: str, plan: Plan) -> str:
    """The image of `below` with the project's virtual environment."""
    identifier = identifier_of(shop, below)
    for line in plan.left_out:
        shop.log(f"leaving out {line}: the image brings its own Samovar SDK")
    image = names.image_name(shop.project, "dependencies", [identifier, shop.installer, *plan.key(tree_parts)])
    if shop.builder.image_id(image) is not None:
        shop.log(f"dependencies are as before ({image})")
        return image
    source = plan.source or "the included libraries"
    shop.log("no dependencies" if plan.empty else f"installing the dependencies of {source}")
    for setting in [] if plan.empty else host_network().left_out:
        shop.log(f"{setting} names a path of this host; a build does not see it")
    script = pip_script(plan, LENT)
    # an environment that nothing of a project goes into is any project's
    anybodys = ("environment", identifier, script) if plan.empty and not plan.trees else None
    if anybodys is not None and (kept := shop.known.get(*anybodys)) is not None:
        config = _config(shop, "dependencies", identifier)
        shop.builder.append(identifier, [Packed.of(io.BytesIO(kept))], image, config)
        shop.log(f"the environment is that of other projects without dependencies ({image})")
        return image
    privileges.look_ahead(shop.builder, identifier, _most(shop), shop.known)
    if shop.installer == "uv" and not plan.empty:
        with environment_by_uv(shop, identifier, plan) as environment:
            if environment is not None:
                _packed(shop, identifier, environment, image)
                return image
    files = {**fetched(shop, identifier, plan), "install.sh": script.encode()}
    with (
        worked(shop, identifier, files, plan.trees, plan) as (users, container, taken),
        shop.steps.step("layers"),
        # the environment and nothing else is taken out of the builder
        container.copy_out(IMAGE_ENVIRONMENT, shop.settings.build_disk) as tree,
        _layer() as (layer, stream),
    ):
        _users(shop, identifier, layer, users)
        take_tree(tree, layer.tar, target=IMAGE_ENVIRONMENT.lstrip("/"))
        _append(shop, "dependencies", identifier, layer, stream, image)
        if anybodys is not None:
            stream.seek(0)
            shop.known.put(stream.read(), *anybodys)
    shop.log(f"dependencies installed in {taken:.1f} s ({image})")
    return image


def _packed(shop: Workshop, below: str, environment: Environment, image: str) -> None:
    """Make `image` of `below` and the environment: large packages, their byte code, all the rest, a layer each.

    So the engine takes in the large ones while they are compiled, and has them already where another package is
    added.
    """
    target, most = IMAGE_ENVIRONMENT.lstrip("/"), shop.settings.build_disk
    large = large_parts(environment.root, _LARGE)

    def is_large(path: str) -> bool:
        before, packages, after = path.partition("site-packages/")
        return f"{before}{packages}{after.partition('/')[0]}" in large

    config = _config(shop, "dependencies", below)
    with ThreadPoolExecutor(1, "byte-code") as pool, contextlib.ExitStack() as opened:
        compiling = pool.submit(compile_environment, shop, below, environment.root)
        layers: list[Packed] = []
        early: str | None = None
        if large:
            with shop.steps.step("layers"):
                layer, stream = opened.enter_context(_layer())
                pack_tree(environment.root, layer.tar, target, most, lambda path, code: not code and is_large(path))
                layer.close()
                layers.append(Packed.of(stream))
                early = shop.builder.append_early(below, layers[0], config)
        try:
            with shop.steps.step("byte code"):
                compiling.result()
            with shop.steps.step("layers"):
                if large:
                    layer, stream = opened.enter_context(_layer())
                    pack_tree(environment.root, layer.tar, target, most, lambda path, code: code and is_large(path))
                    layer.close()
                    layers.append(Packed.of(stream))
                layer, stream = opened.enter_context(_layer())
                _users(shop, below, layer, environment.users)
                pack_tree(environment.root, layer.tar, target, most, lambda path, code: not is_large(path))
                layer.close()
                shop.builder.append(below, [*layers, Packed.of(stream)], image, config)
        finally:
            if early is not None:
                # it has no name, and its layers stay while another image has them
                shop.builder.remove_image(early)


def _most(shop: Workshop) -> int:
    """Bytes of a base with its Debian packages."""
    return shop.settings.base_size + shop.settings.build_disk


@contextlib.contextmanager
def _layer() -> Iterator[tuple[Layer, IO[bytes]]]:
    """A layer to add to, and the file that it lies in."""
    with tempfile.TemporaryFile() as stream:
        yield Layer(stream), stream


def _users(shop: Workshop, below: str, layer: Layer, users: dict[str, bytes]) -> None:
    """What an image of dependencies has beside the environment: the user of tasks, no file that gives rights."""
    privileges.strip(shop.builder, below, layer.tar, _most(shop), shop.known)
    for path, content in users.items():
        layer.file(path, content)
    layer.directory(HOME.lstrip("/"), uid=TASK_UID, mode=0o700)
    for directory in (IMAGE_SDK, IMAGE_CODE):
        layer.directory(directory.lstrip("/"))


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
    files = {"install.sh": libraries_script(len(trees), LENT).encode()}
    with worked(shop, identifier, files, trees, plan) as (_, container, taken):
        built = f"{BUILT}{IMAGE_ENVIRONMENT}"
        with container.copy_out(built, shop.settings.build_disk) as environment, _layer() as (layer, stream):
            take_tree(environment, layer.tar, target=IMAGE_ENVIRONMENT.lstrip("/"))
            _append(shop, "libraries", identifier, layer, stream, image)
    shop.log(f"{shown} installed in {taken:.1f} s ({image})")
    return image


def _append(shop: Workshop, kind: names.Kind, below: str, layer: Layer, stream: IO[bytes], image: str) -> None:
    layer.close()
    shop.builder.append(below, [Packed.of(stream)], image, _config(shop, kind, below))


def _config(shop: Workshop, kind: names.Kind, below: str) -> ImageConfig:
    return ImageConfig(shop.image_labels(kind), shop.builder.environment_of(below), user=f"{TASK_UID}:{TASK_UID}")
