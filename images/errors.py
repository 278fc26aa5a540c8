"""What can go wrong with a build.

ImagesError
└── BuildError              the build ended without an image; `problem` is what the user is told
    ├── ConfigError         samovar.toml says something that cannot be
    ├── SourceError         the archive of the project is not one we unpack
    ├── BaseError           there is no usable base image
    ├── InstallError        dependencies or packages could not be installed
    ├── IndexError_         the modules could not be imported in the finished image
    └── DockerError         the engine cannot be reached, or refused
"""

from __future__ import annotations

from coordinator.wire import FieldProblem, Problem


class ImagesError(Exception):
    """Anything this part raises on purpose."""


class BuildError(ImagesError):
    """A build ended without an image. `problem` goes to the coordinator and from there to the user."""

    code = "build_failed"

    def __init__(self, message: str, *, code: str | None = None, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(
            code=code or self.code,
            message=message,
            fields=[FieldProblem(path=path, message=text) for path, text in (fields or {}).items()],
        )

    def __str__(self) -> str:
        lines = [self.problem.message]
        lines += [f"  {field.path}: {field.message}" for field in self.problem.fields]
        return "\n".join(lines)


class ConfigError(BuildError):
    """samovar.toml says something that cannot be."""

    code = "invalid_config"


class SourceError(BuildError):
    """The archive of the project is not one we unpack."""

    code = "invalid_source"


class BaseError(BuildError):
    """There is no usable base image."""

    code = "base_image"


class InstallError(BuildError):
    """Dependencies or packages could not be installed."""

    code = "install_failed"


class IndexError_(BuildError):
    """The modules could not be imported in the finished image."""

    code = "index_failed"

    @classmethod
    def from_problem(cls, problem: Problem) -> IndexError_:
        """The error that the index itself reported from inside the image."""
        error = cls(problem.message, code=problem.code)
        error.problem = problem
        return error


class DockerError(BuildError):
    """The Docker engine cannot be reached, or refused what was asked."""

    code = "docker_unavailable"
