"""What an operator may set about builds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from coordinator.confined import PROJECTS, SOURCE_BYTES, SOURCE_FILES
from coordinator.wire import Duration, Memory
from images.allowed import USUAL_BASES

#: The Python that a project gets when its samovar.toml names none.
DEFAULT_PYTHON = "3.11"


class ImageSettings(BaseModel):
    """Limits of builds. Memory is bytes (or "2g"), durations are seconds (or "15m")."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Of the container that installs dependencies; swap is not given on top of it.
    build_memory: Memory = 2 * 1024**3
    build_pids: int = Field(default=512, ge=16)
    #: Of each step, and of all of a build's steps together.
    build_timeout: Duration = 15 * 60.0
    #: Bytes on the disk of each of a build's containers, and bytes that are taken out of one.
    build_disk: Memory = 8 * 1024**3
    build_files: int = Field(default=300_000, ge=1000)
    #: Bytes that a container of a build may print.
    build_output: Memory = 64 * 1024**2

    #: Of the container that imports the modules to read the task index.
    index_memory: Memory = 512 * 1024**2
    index_pids: int = Field(default=128, ge=16)
    index_timeout: Duration = 60.0
    #: JSON text of a seccomp profile for that container; the engine's own when there is none.
    seccomp: str | None = None

    #: Of the unpacked source.
    source_bytes: Memory = SOURCE_BYTES
    source_files: int = Field(default=SOURCE_FILES, ge=1)

    #: Of the process that reads what a project wrote, before anything is built.
    reading_memory: Memory = PROJECTS.memory
    reading_timeout: Duration = PROJECTS.deadline

    #: Images that projects may be built on; "python" is any tag of it, "*" any letters (images/allowed.py).
    bases: tuple[str, ...] = USUAL_BASES
    #: Of a base image, as it is unpacked; and of what is fetched for it.
    base_size: Memory = 4 * 1024**3
    #: Of a pull, from its first byte on.
    pull_timeout: Duration = 15 * 60.0

    #: How long the registry may take to begin to answer a pull.
    registry_timeout: Duration = 20.0
    #: Never ask a registry: bases come from the engine or from Debian packages.
    offline: bool = False

    #: Labels that every container and image of a build gets on top of its own.
    labels: dict[str, str] = Field(default_factory=dict)
