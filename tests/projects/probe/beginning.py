"""The first of the project's modules: what was imported before it?"""

import sys

from samovar import task

_BEFORE = tuple(sys.modules)


@task
def read_by_themselves() -> dict:
    """The modules that came from files of their own, and how one is that came from the bundle."""
    import importlib
    import importlib.resources
    import inspect
    import os

    loaders = {}
    for name in _BEFORE:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is not None and str(spec.origin).endswith(".py") and name.partition(".")[0] != "encodings":
            loaders[name] = type(spec.loader).__name__
    process = sys.modules["samovar.harness.process"]
    return {
        "alone": [name for name, loader in loaders.items() if loader == "SourceFileLoader"],
        "bundled": len([name for name, loader in loaders.items() if loader == "_Loader"]),
        "finders": [getattr(each, "__name__", type(each).__name__) for each in sys.meta_path],
        "file": process.__file__,
        "cached": os.path.exists(process.__cached__),
        "source": inspect.getsource(process.main).splitlines()[0],
        "resources": importlib.resources.files("samovar.harness").joinpath("boot.py").is_file(),
        "reloaded": importlib.reload(sys.modules["samovar.values.tracebacks"]).__name__,
    }
