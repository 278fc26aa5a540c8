"""From a project's source to an image and the index of its tasks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.base import base_image
from images.config import Config, read_config
from images.deployment import read_index, with_code
from images.docker_builder import Builder
from images.errors import BuildError, IndexError_
from images.layers import Workshop, with_dependencies, with_packages
from images.locks import hold
from images.names import LABEL_KIND, digest
from images.requirements import read_requirements
from images.settings import ImageSettings
from images.source import unpack

__all__ = ["BuildError", "Built", "ImageSettings", "build", "clean", "remove"]

_LABEL_STATE = "samovar.state"


@dataclass(frozen=True)
class Built:
    """A finished image and what is in it: `index` is `{"sdk", "python", "tasks": [...]}`."""

    image: str
    index: dict[str, Any]


def build(
    source: Path, *, version: str, state: Path, log: Callable[[str], None], settings: ImageSettings | None = None
) -> Built:
    """Build the project in `source`, a tar or tar.gz with samovar.toml at its top.

    `state` is a directory of the host that keeps package caches; `log` gets each line of what is done, from
    one thread at a time. May be called from several threads: builds of one project wait for each other.
    Raises BuildError, whose `problem` says what was wrong and what to do; then no container is left, and no
    image that was not there before.
    """
    settings = settings or ImageSettings()
    unpacked = Path(tempfile.mkdtemp(prefix="samovar-source-"))
    try:
        unpack(source, unpacked, most_bytes=settings.source_bytes, most_files=settings.source_files)
        config = read_config(unpacked)
        requirements = read_requirements(unpacked, config.project.requirements)
        project = config.project.name
        log(f"building {project} {version}")
        with Builder() as builder, hold(f"project-{project}"):
            shop = Workshop(builder, project, state.absolute(), settings, log, _owner(state))
            base = base_image(builder, config.project, settings, log)
            log(f"base image {base.name}, Python {base.python}")
            packages = with_packages(shop, base, config)
            dependencies = with_dependencies(shop, packages, requirements)
            image, index = _finish(shop, dependencies, config, unpacked)
        log(f"ready: {len(index['tasks'])} tasks in {image}")
        return Built(image, index)
    except OSError as error:
        raise BuildError(f"the host could not do its part of the build: {error}", code="host_error") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def remove(image: str) -> bool:
    """Take a deployment's image away; False where it is gone already or a container needs it."""
    with Builder() as builder:
        return builder.remove_image(image)


def clean(state: Path) -> int:
    """Remove the containers of builds that died with their process; how many there were.

    To be called when no build with this `state` is under way.
    """
    removed = 0
    with Builder() as builder:
        for kind in ("builder", "index"):
            removed += builder.remove_containers({**_owner(state), LABEL_KIND: kind})
    return removed


def _finish(shop: Workshop, dependencies: str, config: Config, source: Path) -> tuple[str, dict[str, Any]]:
    image, made = with_code(shop, dependencies, config, source)
    try:
        return image, read_index(shop, image)
    except IndexError_:
        # an image that an earlier deployment has too is not this build's to remove
        if made:
            shop.builder.remove_image(image)
        raise


def _owner(state: Path) -> dict[str, str]:
    return {_LABEL_STATE: digest([str(state.absolute())])[:16]}
