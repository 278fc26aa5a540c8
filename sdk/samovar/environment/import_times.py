"""How long each module takes to import, without what it imports itself, and what to say where that is long.

Every cold start pays for it, and nobody sees it: a run's page says how long importing took, not what of.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader, SourceFileLoader, SourcelessFileLoader
from typing import Any

#: From here on (seconds, all modules together) the slowest are named.
SLOW = 1.0
_NAMED = 5
#: Of all of it: what takes less is not worth a name.
_SHARE = 0.05
#: Those of which each module has an object of its own.
_LOADERS = (SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader)


class Times:
    """Seconds by package: `pandas` stands for all of its modules."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._begun = threading.local()

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def timed(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` gives; its time, without the imports inside of it, is that of `name`'s package."""
        package = name.partition(".")[0]
        # of each import that has begun in this thread: what the imports inside of it took
        inner: list[float] = self._begun.__dict__.setdefault("inner", [])
        inner.append(0.0)
        began = self._clock()
        try:
            return work(*arguments)
        finally:
            took = self._clock() - began
            self.seconds[package] = self.seconds.get(package, 0.0) + took - inner.pop()
            if inner:
                inner[-1] += took

    # ------------------------------------------------------------ sys.meta_path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """As the finders behind this one find it, with a clock beside its loader."""
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                self._watch(name, spec.loader)
                return spec
        return None

    def _watch(self, name: str, loader: Any) -> None:
        if type(loader) not in _LOADERS:
            return
        for step in ("create_module", "exec_module"):
            work = getattr(loader, step)
            setattr(loader, step, lambda *given, _work=work: self.timed(name, _work, *given))


@contextmanager
def measuring() -> Iterator[Times]:
    """Measures what is imported meanwhile."""
    times = Times()
    sys.meta_path.insert(0, times)
    try:
        yield times
    finally:
        sys.meta_path.remove(times)


def notice(times: Times) -> str | None:
    """What takes so long, and what to do about it; None where it does not."""
    if times.total < SLOW:
        return None
    least = _SHARE * times.total
    slowest = sorted(times.seconds.items(), key=lambda item: -item[1])[:_NAMED]
    named = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest if seconds >= least)
    return (
        f"importing the project took {times.total:.1f} s, which each cold start takes again: {named}; import what "
        "few tasks use inside of those tasks, or give those tasks a project of their own"
    )
