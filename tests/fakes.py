"""Stand-ins for failure modes. FakeEngine passes the suite that DockerEngine passes (tests/conformance)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from runner.engine import ContainerState
from runner.errors import EngineError, ImageMissing
from runner.spec import RUNNER, UID, ContainerSpec


@dataclass
class FakeEngine:
    """An engine in memory: containers that run until they are killed, with no process behind them."""

    images: set[str] = field(default_factory=set)
    containers: dict[str, ContainerState] = field(default_factory=dict)
    specs: dict[str, ContainerSpec] = field(default_factory=dict)
    #: Of every image, by path.
    files: dict[str, bytes] = field(default_factory=dict)
    mapped: bool = False
    weights: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _watchers: list[tuple[str, Callable[[str], None]]] = field(default_factory=list)

    def create(self, spec: ContainerSpec) -> None:
        with self._lock:
            if spec.key.image not in self.images:
                raise ImageMissing(f"No such image: {spec.key.image}")
            if spec.name in self.containers:
                raise EngineError(f"the name {spec.name} is taken")
            self.specs[spec.name] = spec
            self.containers[spec.name] = ContainerState(spec.name, False, 0, False, spec.labels)

    def start(self, name: str) -> None:
        with self._lock:
            if name not in self.containers:
                raise EngineError(f"No such container: {name}")
            self.containers[name] = replace(self.containers[name], running=True, exit_code=None)

    def kill(self, name: str) -> None:
        self.die(name, 137)

    def die(self, name: str, code: int, *, out_of_memory: bool = False) -> None:
        """Ends a container as if its process 1 had ended with `code`."""
        with self._lock:
            state = self.containers.get(name)
            if state is None or not state.running:
                return
            self.containers[name] = replace(state, running=False, exit_code=code, out_of_memory=out_of_memory)
            watchers = [died for runner, died in self._watchers if state.labels.get(RUNNER) == runner]
        for died in watchers:
            died(name)

    def weigh(self, name: str, weight: int) -> None:
        if name in self.containers:
            self.weights[name] = weight

    def remove(self, name: str) -> None:
        self.die(name, 137)
        with self._lock:
            self.containers.pop(name, None)
            self.specs.pop(name, None)

    def inspect(self, name: str) -> ContainerState | None:
        return self.containers.get(name)

    def list(self, runner: str) -> list[ContainerState]:
        return [state for state in self.containers.values() if state.labels.get(RUNNER) == runner]

    @property
    def maps_users(self) -> bool:
        return self.mapped

    def users(self) -> set[int]:
        return {int(state.labels[UID]) for state in self.containers.values() if UID in state.labels}

    def read_file(self, image: str, path: str, most: int) -> bytes | None:
        if image not in self.images:
            raise ImageMissing(f"No such image: {image}")
        return self.files.get(path)

    def sandbox_problem(self) -> str | None:
        return None

    def sandbox_memory(self, name: str) -> int | None:
        return None

    def image_exists(self, image: str) -> bool:
        return image in self.images

    def watch(self, runner: str, died: Callable[[str], None], stop: Callable[[], bool]) -> None:
        self._watchers.append((runner, died))

    def close(self) -> None:
        self._watchers.clear()


class NeverStartsEngine(FakeEngine):
    """Creates containers, and fails to start any."""

    def start(self, name: str) -> None:
        raise EngineError("no space left on device")


class StuckRemovalEngine(FakeEngine):
    """Refuses the first removals, as an engine does whose storage driver is busy."""

    refusals: int = 2

    def remove(self, name: str) -> None:
        if self.refusals > 0:
            self.refusals -= 1
            raise EngineError("driver failed to remove root filesystem: device or resource busy")
        super().remove(name)


@dataclass
class SlowEngine(FakeEngine):
    """Takes its time to create a container: until `go` is set."""

    go: threading.Event = field(default_factory=threading.Event)

    def create(self, spec: ContainerSpec) -> None:
        assert self.go.wait(30)
        super().create(spec)
