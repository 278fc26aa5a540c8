"""The client of the Docker engine: what it raises becomes what a build raises. No other file here imports it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Ulimit
from requests.exceptions import RequestException

from images.errors import DockerError

__all__ = [
    "READ_TIMEOUT",
    "APIError",
    "DockerException",
    "ImageNotFound",
    "LogConfig",
    "NotFound",
    "RequestException",
    "Ulimit",
    "connect",
    "speaking",
    "split_name",
]

#: Seconds that the engine may take for an answer, or between two pieces of one.
READ_TIMEOUT = 120


def connect() -> docker.DockerClient:
    """A client of the engine that the environment names. Raises DockerError."""
    with speaking():
        return docker.from_env(version="auto", timeout=READ_TIMEOUT)


@contextlib.contextmanager
def speaking() -> Iterator[None]:
    """Turn what the client raises into what a build raises."""
    try:
        yield
    except APIError as error:
        raise DockerError(f"Docker refused: {error.explanation or error}") from error
    except (RequestException, DockerException) as error:
        raise DockerError(
            f"the Docker engine cannot be reached: {error}; is it running, and may this user use its socket?"
        ) from error


def split_name(name: str) -> tuple[str, str]:
    """Repository and tag, or digest, of an image's name."""
    before, at, digest = name.partition("@")
    if at:
        return before, digest
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        return name, "latest"
    return repository, tag
