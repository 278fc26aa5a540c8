"""The container engine as the runner needs it: a few verbs, a look at users and images, and a stream of deaths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runner.spec import ContainerSpec


@dataclass(frozen=True)
class ContainerState:
    """A container as the engine sees it."""

    name: str
    running: bool
    exit_code: int | None
    out_of_memory: bool
    labels: dict[str, str]


class Engine(Protocol):
    """Starts and ends containers. Every call blocks; a container that is gone already is no error on the way out.

    Errors: ImageMissing from `create`, EngineError from everything.
    """

    def create(self, spec: ContainerSpec) -> None:
        """Creates the container `spec.name`; it does not run yet."""

    def start(self, name: str) -> None:
        """Starts process 1."""

    def kill(self, name: str) -> None:
        """SIGKILL to everything in the container."""

    def weigh(self, name: str, weight: int) -> None:
        """What the container weighs from now on where processors are short; see weights.py."""

    def remove(self, name: str) -> None:
        """Ends the container where it runs, and removes it with all that it wrote."""

    def inspect(self, name: str) -> ContainerState | None:
        """The container's state; None where there is none of that name."""

    def list(self, runner: str) -> list[ContainerState]:
        """Every container, running or not, that carries the label of `runner`."""

    @property
    def maps_users(self) -> bool:
        """Whether user ids in containers are other ones on the host (userns-remap, rootless), and end at 65535."""

    def users(self) -> set[int]:
        """The user ids of all containers of Samovar on this engine, of any runner, running or not."""

    def read_file(self, image: str, path: str, most: int) -> bytes | None:
        """The first `most` bytes of a file of an image; None where there is no such file. Raises EngineError."""

    def sandbox_problem(self) -> str | None:
        """Why code that is not trusted can't run on this engine, with what to do about it; None: it can."""

    def sandbox_memory(self, name: str) -> int | None:
        """Bytes that a sandbox has taken, where the kernel does not hold its limit; None: it does, or it is gone.

        Raises EngineError where that can't be seen.
        """

    def image_exists(self, image: str) -> bool:
        """Whether `image` is on this host."""

    def watch(self, runner: str, died: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """Calls `died(name)` for each container of `runner` that dies, until `stop()`; reconnects by itself."""

    def close(self) -> None:
        """Lets the connections go."""
