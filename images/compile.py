"""What compiles an environment's byte code, on every core of its builder.

Given to a builder as a file, which runs it with the base's own Python, without site: so only the standard library
is there, nothing of a package is imported, and Python 3.9 has to do. Byte code is made without a check against its
source, as nothing in a finished image changes. What was compiled before is taken from the project's store, by the
digest of a source, its place and the Python. Directories called `tests` are left as they are: no program imports
them, and they are half of many a package.

    compile.py ROOT STORE
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import py_compile
import sys


def sources(root: str) -> list[tuple[int, str]]:
    """Every module below `root`, the largest first: sizes in bytes, and paths."""
    found = []
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in {"tests", "__pycache__"}]
        for file in files:
            path = os.path.join(directory, file)
            if file.endswith(".py") and not os.path.islink(path):
                found.append((os.path.getsize(path), path))
    return sorted(found, reverse=True)


def compiled(path: str, store: str) -> None:
    """Put the byte code of `path` beside it, and into `store` where that has it not yet."""
    with open(path, "rb") as file:
        text = file.read()
    target = importlib.util.cache_from_source(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    digest = hashlib.sha256(b"\0".join([sys.version.encode(), os.fsencode(path), text])).hexdigest()
    kept = os.path.join(store, digest[:2], digest)
    try:
        with open(kept, "rb") as file:
            code = file.read()
        # a package may bring byte code of its own, as one file with the store of packages
        if os.path.lexists(target):
            os.unlink(target)
        with open(target, "xb") as file:
            file.write(code)
    except FileNotFoundError:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(path, cfile=target, doraise=True, invalidation_mode=mode)
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        with open(target, "rb") as file:
            code = file.read()
        unfinished = f"{kept}.{os.getpid()}"
        with open(unfinished, "wb") as file:
            file.write(code)
        os.replace(unfinished, kept)


def work(paths: list[str], store: str) -> None:
    for path in paths:
        try:
            compiled(path, store)
        except (py_compile.PyCompileError, OSError, ValueError, RecursionError, MemoryError):
            # one that does not compile is an error where it is imported, and of no other
            continue


def main() -> int:
    root, store = sys.argv[1:]
    found = [path for _, path in sources(root)]
    count = len(os.sched_getaffinity(0))
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            work(found[number::count], store)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
