"""What a process has made that a fork of it would not have, or would share: read from itself after the imports.

A run that is forked has copies of everything in memory, but no thread but its own, and connections, files and
shared memory in common with every run after it. Where there is something of that, runs start in interpreters of
their own. Where a task asks for forks all the same, what one run leaves in those things the next one finds: such a
container is not used again (`carried`).
"""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
import threading
import types
from contextlib import suppress
from typing import Any

from samovar.values.files import read_text

#: Native libraries that start threads of their own, by what their files are called.
_POOLS = ("gomp", "iomp", "omp", "mkl", "tbb", "openblas", "arrow", "grpc", "ray", "torch", "tensorflow", "polars")
#: This one ends its threads before a fork and starts new ones when it needs them.
_FORK_SAFE = {"openblas"}
_NATIVE = re.compile(r"/(?:lib|_)?([A-Za-z_]*[A-Za-z])[^/]*\.so[^/]*$")
#: Where this package is.
_OWN = os.path.dirname(os.path.dirname(__file__))
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


def descriptors() -> dict[int, str]:
    """The open descriptors of this process and what each leads to, to be told apart from those that come later."""
    found = {int(name): _target(int(name)) for name in os.listdir("/proc/self/fd")}
    return {number: target for number, target in found.items() if target is not None}


def culprits(carried: list[str], code: str) -> list[str]:
    """What would not survive a fork, in words: what is `carried`, and what `code`, the project's folder, knows of
    its process.
    """
    return [*carried, *_process_ids(code)]


def carried(known: dict[int, str]) -> list[str]:
    """Of the culprits, those through which one forked run could hand something to the next, in words; `known` were
    open before.

    Threads are among them: they stay where runs are forked from, and may do there what a run asks of them.
    """
    return [*_threads(), *_native_threads(), *_children(), *_open(known), *_shared()]


def places() -> dict[int, int]:
    """Where the open files of this process are read at: forks share it, and may move it."""
    found = {}
    for number, target in descriptors().items():
        if number > 2 and target.startswith("/"):
            with suppress(OSError):
                found[number] = os.lseek(number, 0, os.SEEK_CUR)
    return found


def put_back(found: dict[int, int]) -> None:
    """Has them read where they were when `places` looked."""
    for number, place in found.items():
        with suppress(OSError):
            os.lseek(number, place, os.SEEK_SET)


def _threads() -> list[str]:
    found = []
    for thread in threading.enumerate():
        if thread is threading.main_thread():
            continue
        made_of: Any = getattr(thread, "_target", None) or type(thread)
        where = f"{getattr(made_of, '__module__', '?')}.{getattr(made_of, '__qualname__', '?')}"
        found.append(f"the thread {thread.name!r} ({where})")
    return found


def _native_threads() -> list[str]:
    python = {thread.native_id for thread in threading.enumerate()}
    extra = [name for name in os.listdir("/proc/self/task") if int(name) not in python]
    if not extra:
        return []
    loaded = {match[1].lower() for line in _maps() if (match := _NATIVE.search(line))}
    pools = sorted(pool for pool in _POOLS if any(n.startswith(pool) or n.endswith(f"_{pool}") for n in loaded))
    if pools and set(pools) <= _FORK_SAFE:
        return []
    whose = f" (loaded are {', '.join(pools)})" if pools else ""
    return [f"{len(extra)} threads of a native library{whose}"]


def _children() -> list[str]:
    found = []
    for task in os.listdir("/proc/self/task"):
        for pid in read_text(f"/proc/self/task/{task}/children").split():
            command = read_text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
            found.append(f"the process {pid} ({command[:80]})")
    return found


def _open(known: dict[int, str]) -> list[str]:
    mapped = {line.split(None, 5)[-1] for line in _maps() if line.count(" ") > 4}
    found = []
    # by what it leads to as well: a module may put something else in the place of one that was open before
    for number, target in sorted(descriptors().items() - known.items()):
        if target in _DEVICES:
            continue
        if target.startswith("socket:"):
            found.append(_socket(number))
        elif target.startswith(("pipe:", "anon_inode:")):
            kind = target.removeprefix("anon_inode:").strip("[]").partition(":")[0]
            found.append({"pipe": "a pipe", "eventpoll": "an event loop"}.get(kind, f"an {kind}"))
        elif _is_shared_file(number, target, mapped):
            found.append(f"the open file {target}")
    return list(dict.fromkeys(found))


def _is_shared_file(number: int, target: str, mapped: set[str]) -> bool:
    """Whether runs would share the place in the file, or what they write to it."""
    try:
        mode = os.fstat(number).st_mode
        # one that reads only is opened for writing by its name in /proc, where the file may be written at all
        writable = not os.fstatvfs(number).f_flag & os.ST_RDONLY and os.access(f"/proc/self/fd/{number}", os.W_OK)
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        return False
    flags = re.search(r"flags:\s*(\d+)", read_text(f"/proc/self/fdinfo/{number}"))
    reads_only = flags is not None and int(flags[1], 8) & os.O_ACCMODE == os.O_RDONLY
    return not (reads_only and not writable and target in mapped)  # a mapped file is read without a place in it


def _socket(number: int) -> str:
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
        with suppress(OSError):
            peer = one.getpeername()
            return f"a connection to {_address(peer)}" if peer else "a pair of sockets"
        with suppress(OSError):
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return f"a listener at {_address(one.getsockname())}"
    return "a socket"


def _address(address: Any) -> str:
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else repr(address)


def _shared() -> list[str]:
    found = []
    for line in _maps():
        words = line.split(None, 5)
        if len(words) > 1 and words[1].endswith("s") and _may_be_written(words[0]):
            path = words[5] if len(words) > 5 else "without a name"
            found.append(f"memory that processes share ({path.removesuffix(' (deleted)')})")
    return list(dict.fromkeys(found))


def _may_be_written(place: str) -> bool:
    """Whether a mapping is writable, or can be made so because its file was opened for it (the kernel's `mw`)."""
    _, _, rest = read_text("/proc/self/smaps").partition(f"{place} ")
    _, told, flags = rest.partition("VmFlags:")
    return not told or "mw" in flags.partition("\n")[0].split()


def _process_ids(code: str) -> list[str]:
    """Variables of the project's modules that hold this process's id under a name that says so."""
    found = []
    inside = os.path.join(os.path.realpath(code), "")
    # most modules are of these, and to follow a path takes a call of the file system for each of its parts
    libraries = (os.path.dirname(os.__file__), os.path.join(sys.prefix, "lib"), _OWN)
    others = tuple(os.path.join(library, "") for library in libraries)
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or path.startswith(others) or not os.path.realpath(path).startswith(inside):
            continue
        for variable, value in list(vars(module).items()):
            if _is_own_id(variable, value):
                found.append(f"the process id in {name}.{variable}")
            elif not isinstance(value, types.ModuleType):
                inner = _attributes(value)
                found += [f"the process id in {name}.{variable}.{n}" for n, v in inner.items() if _is_own_id(n, v)]
    return found


def _is_own_id(name: str, value: Any) -> bool:
    return type(value) is int and value == os.getpid() and "pid" in name.lower()


def _attributes(value: Any) -> dict[str, Any]:
    """What an object or a class of the module holds itself, without running code of its own."""
    try:
        found = vars(value) if isinstance(value, type) else object.__getattribute__(value, "__dict__")
        return dict(found)
    except (AttributeError, TypeError):
        return {}


def _target(number: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return None


def _maps() -> list[str]:
    return read_text("/proc/self/maps").splitlines()
