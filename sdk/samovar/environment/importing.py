"""What is to be done with a module of the standard library as soon as anybody has imported it.

So that none has to be imported only to change something of it: few tasks need them, and each start and each idle
container would have them.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import SourceFileLoader, SourcelessFileLoader
from typing import Any, Callable

_STANDARD = os.path.dirname(os.__file__) + os.sep
_LOADERS = (SourceFileLoader, SourcelessFileLoader)


def when_imported(name: str, act: Callable[[], object]) -> None:
    """Calls `act` once, now where the module is there, else right after its code has run.

    A project's own module of this name is left alone.
    """
    if _is_standard(getattr(sys.modules.get(name), "__file__", None)):
        act()
        return
    if _hook not in sys.meta_path:
        sys.meta_path.insert(0, _hook)
    _hook.acts[name] = act


def forget(name: str) -> None:
    """Does nothing any more when it is imported; and nothing is left of all this where it was for the last one."""
    _hook.acts.pop(name, None)
    if not _hook.acts and _hook in sys.meta_path:
        sys.meta_path.remove(_hook)


class _Hook:
    """Has the other finders find the module, and extends what its loader does, but for its type."""

    def __init__(self) -> None:
        self.acts: dict[str, Callable[[], object]] = {}
        self._finding: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.acts or name in self._finding:
            return None
        self._finding.add(name)  # a finder of the project's may ask all of them again
        try:
            finders = [finder for finder in sys.meta_path if finder is not self]
            asked = (finder.find_spec(name, path, target) for finder in finders if hasattr(finder, "find_spec"))
            spec = next((found for found in asked if found is not None), None)
        finally:
            self._finding.discard(name)
        if spec is not None and isinstance(spec.loader, _LOADERS) and _is_standard(spec.origin):
            self._extend(name, spec.loader)
        return spec

    def _extend(self, name: str, loader: Any) -> None:
        def exec_module(module: Any) -> None:
            del loader.exec_module  # it was there for this once
            loader.exec_module(module)
            act = self.acts.pop(name, None)
            if act is not None:
                act()

        loader.exec_module = exec_module


def _is_standard(origin: str | None) -> bool:
    return origin is not None and origin.startswith(_STANDARD)


_hook = _Hook()
