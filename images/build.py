"""From a project's source to an image and the index of its tasks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from images.backends import ask_backends
from images.base import Base, base_image
from images.config import Config
from images.dependencies import Answer, Plan, Tree, make_plan
from images.dependencies.imports import site_files
from images.dependencies.tree import outside, packed
from images.deployment import read_index, with_code
from images.docker_builder import Builder
from images.errors import BuildError, IndexError_
from images.layers import with_dependencies, with_libraries, with_packages
from images.locks import hold
from images.names import LABEL_KIND, digest
from images.project import read_project
from images.reading import Reader
from images.settings import ImageSettings
from images.steps import Steps
from images.stock import remove_tree, stock
from images.way import Way
from images.workshop import Workshop, give, trim

__all__ = ["BuildError", "Built", "ImageSettings", "build", "clean", "remove"]

_LABEL_STATE = "samovar.state"
#: How directories begin that builders are lent for a while.
LENT_BY_NAME = ("stock-", "in-")


@dataclass(frozen=True)
class Built:
    """A finished image and what is in it: `index` is `{"sdk", "python", "tasks": [...]}`."""

    image: str
    index: dict[str, Any]


def build(
    source: Path,
    *,
    project: str,
    version: str,
    state: Path,
    log: Callable[[str], None],
    settings: ImageSettings | None = None,
    way: Way | None = None,
) -> Built:
    """Build `project` out of `source`, an archive as coordinator/archive.py reads it, with samovar.toml at its top.

    `project` is whose the build is: a source that says another is refused. What it shares with earlier builds
    (images, package caches, turns) goes by this name, and never by one out of the source.
    `state` is a directory of the host that keeps package caches; `log` gets each line of what is done, from
    one thread at a time. `way` opens the way out of the steps that download; without one they have Docker's
    bridge. May be called from several threads: builds of one project wait for each other.
    Raises BuildError, whose `problem` says what was wrong and what to do; then no container is left, and no
    image that was not there before.
    """
    settings = settings or ImageSettings()
    unpacked = Path(tempfile.mkdtemp(prefix="samovar-source-"))
    steps = Steps(log)
    try:
        with Reader(settings) as reader:
            with steps.step("source"):
                config, tree = reader.call(read_project, source, unpacked, project, settings)
            log(f"building {project} {version}")
            with Builder() as builder, hold(f"project-{project}"), stock(state.absolute(), give) as supply:
                shop = Workshop(
                    builder, project, state.absolute(), settings, log, _owner(state), supply, steps, way=way
                )
                trim(shop)
                with steps.step("base"):
                    base = base_image(builder, config.project, settings, log, shop.known)
                deadline = time.monotonic() + settings.build_timeout
                shop = replace(shop, deadline=deadline, installer=config.project.installer)
                log(f"base image {base.name}, Python {base.python}")
                with steps.step("plan"):
                    plan = reader.call(make_plan, tree, config.project, base.target(config.project))
                with steps.step("Debian packages"):
                    packages = with_packages(shop, base, config)
                with steps.step("build backends"):
                    plan = _answered(shop, reader, packages, tree, config, base, plan)
                for notice in plan.notices:
                    shop.log(notice)
                with steps.step("dependencies"):
                    dependencies = with_dependencies(shop, packages, plan)
                with steps.step("libraries"):
                    libraries = with_libraries(shop, dependencies, plan)
                image, index = _finish(shop, libraries, config, unpacked, plan, base, packages)
            steps.tell()
            log(f"ready: {len(index['tasks'])} tasks in {image}")
            return Built(image, index)
    except OSError as error:
        raise BuildError(f"the host could not do its part of the build: {error}", code="host_error") from error
    finally:
        remove_tree(unpacked)


def remove(image: str) -> bool:
    """Take a deployment's image away; False where it is gone already or a container needs it."""
    with Builder() as builder:
        return builder.remove_image(image)


def clean(state: Path) -> int:
    """Remove the containers of builds that died with their process, and what they were lent; how many there were.

    To be called when no build with this `state` is under way.
    """
    removed = 0
    with Builder() as builder:
        for kind in ("builder", "index"):
            removed += builder.remove_containers({**_owner(state), LABEL_KIND: kind})
    for lent in LENT_BY_NAME:
        for left in state.glob(f"{lent}*"):
            remove_tree(left)
    return removed


def _answered(
    shop: Workshop, reader: Reader, below: str, tree: Tree, config: Config, base: Base, plan: Plan
) -> Plan:
    """`plan` with what build backends say where only they know; each may name a library that is asked in turn."""
    answers: dict[str, Answer] = {}
    while plan.ask:
        answers |= ask_backends(shop, below, plan)
        plan = reader.call(make_plan, tree, config.project, base.target(config.project), answers)
    return plan


def _finish(
    shop: Workshop, below: str, config: Config, source: Path, plan: Plan, base: Base, python: str
) -> tuple[str, dict[str, Any]]:
    imports = site_files(plan, base.python)
    left_out = [packed(library.where) for library in plan.libraries if outside(library.where)]
    with shop.steps.step("code"):
        image, made = with_code(shop, below, config, source, imports, left_out, python)
    try:
        with shop.steps.step("index"):
            return image, read_index(shop, image)
    except IndexError_:
        # an image that an earlier deployment has too is not this build's to remove
        if made:
            shop.builder.remove_image(image)
        raise


def _owner(state: Path) -> dict[str, str]:
    return {_LABEL_STATE: digest([str(state.absolute())])[:16]}
