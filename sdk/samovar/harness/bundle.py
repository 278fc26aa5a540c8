"""The modules of a start in one file, which an image has beside the SDK: what process 1 and the zygote import until
the project's own modules are imported.

To find and read one module by itself takes a dozen calls of the file system, and a container's file system is not
the host's. The file is made where the SDK is compiled (images/compile_code.py), by the Python that it is for. Where
there is none, or another Python, each module is read by itself: it changes nothing else.
"""

# (no `from __future__`: that is a module too, and this one is there before any other)

import marshal
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader

#: `typing` would have to be read by itself.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    #: By name: whether it is a package, the path of its source, and its byte code.
    Modules = dict[str, tuple[bool, str, bytes]]

#: What is imported in every start. The rest of the bundle is what these import.
NAMES = (
    "samovar.harness.bundle",
    "samovar.harness.supervisor",
    "samovar.harness.control",
    "samovar.harness.zygote",
    "samovar.harness.process",
    "samovar.environment.forking",
    "samovar.environment.generators",
    "samovar.environment.interpreter",
    "samovar.environment.modules",
    "samovar.environment.variables",
    "samovar.harness.ending",
    "samovar.declare.options",
    "samovar.declare.registry",
    "samovar.tasks",
    "samovar.values.hints",
    "samovar.values.tracebacks",
    "importlib",
    "site",
)


class _Loader(SourceFileLoader):
    """As Python's own, but for where the byte code is: a module has its file, its source and its resources."""

    modules: "Modules"

    def get_code(self, fullname: str) -> "CodeType | None":
        held = self.modules.get(fullname)
        return super().get_code(fullname) if held is None else marshal.loads(held[2])


class Finder:
    """Comes after what is built into the interpreter, and before what is looked for on `sys.path`."""

    def __init__(self, modules: "Modules") -> None:
        self.bundled = modules

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        held = self.bundled.get(name)
        if held is None:
            return None
        is_package, origin, _ = held
        loader = _Loader(name, origin)
        loader.modules = self.bundled
        spec = ModuleSpec(name, loader, origin=origin, is_package=is_package)
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(origin.rpartition("/")[0])
        return spec


def install(modules: "Modules") -> None:
    """Have these modules imported from memory."""
    sys.meta_path.insert(2, Finder(modules))


def forget() -> None:
    """Give the memory back; what is imported from now on is looked for where Python looks."""
    for finder in list(sys.meta_path):
        # (of the class that boot.py has made of this file)
        if isinstance(held := getattr(finder, "bundled", None), dict):
            sys.meta_path.remove(finder)
            held.clear()


def made() -> bytes:
    """The bundle of this interpreter, which has imported nothing else yet."""
    import importlib
    import os

    for name in NAMES:
        importlib.import_module(name)
    modules: Modules = {}
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and isinstance(spec.loader, SourceFileLoader) and str(spec.origin).endswith(".py"):
            code = spec.loader.get_code(name)
            modules[name] = (spec.submodule_search_locations is not None, spec.origin, marshal.dumps(code))
    return marshal.dumps(((sys.version, os.path.dirname(os.__file__)), modules))
