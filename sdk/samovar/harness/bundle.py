"""The modules of a start in one file, which an image has beside the SDK: what process 1 and the zygote import until
the project's own modules are imported, and what those import of this package.

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

    #: By name: whether it is a package, the path of its source, and from where to where its byte code is.
    Modules = dict[str, tuple[bool, str, int, int]]

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
#: What tasks take of this package beside its public names, when they are prepared and run.
LATER = (
    "samovar.payloads.constraints",
    "samovar.payloads.models",
    "samovar.payloads.moments",
    "samovar.payloads.signature",
    "samovar.running.children",
)
_OWN = "samovar."


class _Loader(SourceFileLoader):
    """As Python's own, but for where the byte code is: a module has its file, its source and its resources."""

    finder: "Finder"

    def get_code(self, fullname: str) -> "CodeType | None":
        held = self.finder.bundled.get(fullname)
        if held is None:
            return super().get_code(fullname)
        code: CodeType = marshal.loads(memoryview(self.finder.code)[held[2] : held[3]])
        return code


class Finder:
    """Comes after what is built into the interpreter, and before what is looked for on `sys.path`."""

    def __init__(self, modules: "Modules", code: bytes) -> None:
        self.bundled = modules
        #: In one piece, which the system has back when it is forgotten.
        self.code = code
        #: Whether it has this package alone, and the rest is looked for where Python looks.
        self.own_alone = False

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        held = self.bundled.get(name)
        if held is None or (self.own_alone and not name.startswith(_OWN)):
            return None
        loader = _Loader(name, held[1])
        loader.finder = self
        spec = ModuleSpec(name, loader, origin=held[1], is_package=held[0])
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(held[1].rpartition("/")[0])
        return spec

    def forget(self) -> None:
        self.bundled.clear()
        self.code = b""


def install(modules: "Modules", code: bytes) -> None:
    """Have these modules imported from memory."""
    sys.meta_path.insert(2, Finder(modules, code))


def keep_own() -> None:
    """From now on what is imported is looked for where Python looks, but for this package."""
    for finder in _installed():
        finder.own_alone = True


def forget() -> None:
    """Give the memory back; all that is imported from now on is looked for where Python looks."""
    for finder in _installed():
        sys.meta_path.remove(finder)
        finder.forget()


def _installed() -> "list[Any]":
    # (of the class that boot.py has made of this file)
    return [finder for finder in sys.meta_path if hasattr(finder, "bundled")]


def made() -> bytes:
    """The bundle of this interpreter, which has imported nothing else yet."""
    import importlib
    import os

    import samovar

    for name in NAMES:
        importlib.import_module(name)
    # of what a project's modules and their tasks take, this package, but not what it imports: a project may have a
    # module in the place of one of the standard library. What calls from outside seldom is in a task
    wanted = set(sys.modules)
    homes = {f"samovar.{home}" for home in samovar._HOMES.values() if not home.startswith("calling.")}
    for name in (*sorted(homes), *LATER):
        importlib.import_module(name)
    modules: Modules = {}
    codes, at = [], 0
    for name, module in sorted(sys.modules.items()):
        if name not in wanted and not name.startswith(_OWN):
            continue
        spec = getattr(module, "__spec__", None)
        if spec is not None and isinstance(spec.loader, SourceFileLoader) and str(spec.origin).endswith(".py"):
            code = marshal.dumps(spec.loader.get_code(name))
            modules[name] = (spec.submodule_search_locations is not None, str(spec.origin), at, at + len(code))
            codes.append(code)
            at += len(code)
    return b"".join([marshal.dumps(((sys.version, os.path.dirname(os.__file__)), modules)), *codes])
