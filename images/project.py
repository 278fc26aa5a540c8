"""A project as it was sent: unpacked, its tables read, and what it needs made out as far as that goes at once."""

from __future__ import annotations

from pathlib import Path

from images.config import Config, read_config
from images.dependencies import Tree, make_plan
from images.dependencies.target import guess
from images.errors import SourceError
from images.settings import DEFAULT_PYTHON, ImageSettings
from images.source import unpack


def read_project(source: Path, unpacked: Path, project: str, settings: ImageSettings) -> tuple[Config, Tree]:
    """Unpacks the source and reads its tables. Raises SourceError and ConfigError."""
    unpack(source, unpacked, most_bytes=settings.source_bytes, most_files=settings.source_files)
    config = read_config(unpacked)
    if config.project.name != project:
        raise SourceError(
            f"this is the source of {config.project.name!r}, and the build is one of {project!r}",
            code="other_project",
        )
    tree = Tree(unpacked, config.project.include)
    # what cannot be is said before there is anything to wait for
    make_plan(tree, config.project, guess(config.project.python or DEFAULT_PYTHON, config.project.apt))
    return config, tree
