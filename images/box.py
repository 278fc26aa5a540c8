"""What a container of a build is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Box:
    """What a container of a build is given. Memory is bytes; swap is never given on top of it."""

    image: str
    command: list[str]
    labels: dict[str, str]
    memory: int
    pids: int
    timeout: float
    user: str = "65532:65532"
    network: Literal["none", "bridge"] = "none"
    capabilities: list[str] = field(default_factory=list)
    read_only: bool = False
    #: Directory in the container → mount options.
    tmpfs: dict[str, str] = field(default_factory=dict)
    #: Directory or file of the host, path in the container, whether it may be written.
    binds: list[tuple[Path, str, bool]] = field(default_factory=list)
    seccomp: str | None = None
    directory: str = "/"
    #: Not for a container that is committed: the image would have them too.
    environment: dict[str, str] = field(default_factory=dict)
    hostname: str | None = None
    #: Bytes that it may print; one that says more is ended.
    output: int = 64 * 1024**2
    #: Bytes and files that it may have on the disk; None where nothing that it writes is on one.
    disk: int | None = 8 * 1024**3
    files: int = 300_000
    #: Bytes of the largest file that it may write.
    largest_file: int = 8 * 1024**3


@dataclass(frozen=True)
class Outcome:
    """How a container ended."""

    exit_code: int
    out_of_memory: bool
    timed_out: bool
    seconds: float
    #: It printed more than it may.
    flooded: bool = False
    #: What of the disk it took too much of, in words; empty where it kept to its share.
    overran: str = ""
