"""How long each step of a build takes, said as it ends and all together at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from images.lines import Log


@dataclass
class Steps:
    """The steps of one build, in their order. `clock` gives seconds."""

    log: Log
    clock: Callable[[], float] = time.monotonic
    #: What was done, and the seconds it took. A step that comes again is added to.
    taken: dict[str, float] = field(default_factory=dict)
    _outer: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done inside; what steps inside of it took is theirs, and not counted twice."""
        began = self.clock()
        self._outer.append(0.0)
        try:
            yield
        finally:
            whole = self.clock() - began
            inner = self._outer.pop()
            if self._outer:
                self._outer[-1] += whole
            self.taken[name] = self.taken.get(name, 0.0) + whole - inner

    def tell(self) -> None:
        """Log what each step took."""
        shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.taken.items() if seconds >= 0.05)
        self.log(f"took {sum(self.taken.values()):.1f} s: {shown or 'nothing'}")
