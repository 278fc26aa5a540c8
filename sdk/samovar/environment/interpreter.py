"""Makes a process what `python` in the project's own environment is, wherever its modules are imported.

The index, the zygote and a run in an interpreter of its own all begin here, so that what works in one of them works
in the others: the same folder, module path, variables, number of processors. Process 1 is isolated (`-I -S`); what
user code starts must not inherit that, and a Python that it starts finds the project and its packages.
"""

from __future__ import annotations

import os
import sys
import types
from collections import namedtuple
from typing import Any

from samovar.environment import network

#: By these, libraries know how many threads to start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "GOMAXPROCS",
    "PYTHON_CPU_COUNT",  # Python 3.13 and later
)
#: The folder that the SDK is imported from.
SDK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: How many processors the container has, from whoever started it.
CPUS = "SAMOVAR_CPUS"
_NO_PLAIN_FLAGS = {"isolated": 0, "no_site": 0, "ignore_environment": 0, "no_user_site": 0, "safe_path": False}
#: What was `__main__`: the frames that run it need its names.
_replaced: list[types.ModuleType] = []


def prepare(code: str, manifest: dict[str, Any]) -> None:
    """Before the modules are imported; `manifest` as `modules.read_manifest` gives it, `code` the project's
    folder.
    """
    os.environ.update(manifest["env"])
    network.prepare(manifest["env"])
    _limit_threads()
    roots = [os.path.normpath(os.path.join(code, root)) for root in manifest["paths"]]
    _find_modules(roots)
    _be_plain()
    os.chdir(code)


def _limit_threads() -> None:
    given = os.environ.pop(CPUS, "")  # of no concern to user code
    if not given.isdigit() or given == "0":
        return  # not in a container of ours
    cpus = int(given)
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, given)
    real = os.sched_getaffinity

    def cpu_count() -> int:
        """The processors of the container, not of the host."""
        return cpus

    def sched_getaffinity(pid: int, /) -> set[int]:
        """As many processors as the container has."""
        found = real(pid)
        return set(sorted(found)[:cpus]) if pid in (0, os.getpid()) else found

    os.cpu_count = cpu_count
    if hasattr(os, "process_cpu_count"):
        os.process_cpu_count = cpu_count
    os.sched_getaffinity = sched_getaffinity


def _find_modules(roots: list[str]) -> None:
    """The project's folders first, here and in every Python that is started from here."""
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    given = [os.path.normpath(os.path.join(roots[0], part)) for part in given]
    sys.path[:0] = [path for path in dict.fromkeys([*roots, *given]) if path not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*roots, *given, SDK]))


def _be_plain() -> None:
    """Flags that a child would inherit (subprocess and multiprocessing read them here), and an empty `__main__`."""
    names = getattr(type(sys.flags), "__match_args__", None) or [
        name for name in dir(sys.flags) if not name.startswith(("_", "n_")) and name not in ("count", "index")
    ]
    values = {name: getattr(sys.flags, name) for name in names}
    values |= {name: value for name, value in _NO_PLAIN_FLAGS.items() if name in values}
    made = namedtuple("flags", names)  # type: ignore[misc]
    sys.flags = made(**values)  # type: ignore[assignment]
    sys.argv = [""]
    main = sys.modules.get("__main__")
    if main is not None:
        _replaced.append(main)
    # a child of multiprocessing would run the file of ours again
    sys.modules["__main__"] = types.ModuleType("__main__")
