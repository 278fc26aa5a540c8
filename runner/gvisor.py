"""gVisor, in which code that is not trusted runs: a kernel of its own for each container, in user space.

The engine starts it as the runtime `runsc`, which the operator has registered. Its kernel's threads and memory are
those of a process of the host: where runsc makes cgroups, they hold the memory's limit; where it is told to leave
them alone (`--ignore-cgroups`), nobody does, and the runner looks and ends what has taken too much.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from runner.errors import EngineError

RUNTIME = "runsc"
#: Threads and processes of the host that a sandbox needs for itself, beside those of its tasks.
THREADS = 512
#: How gVisor names the file that holds all memory of a sandbox.
_MEMORY = "memfd:runsc-memory"
_BLOCK = 512
_IGNORES = "ignore-cgroups"


def problem(runtimes: dict[str, Any]) -> str | None:
    """What is missing of an engine with these `Runtimes` (as its info tells them), and the remedy."""
    if RUNTIME in runtimes:
        return None
    return (
        f'trust="untrusted" needs gVisor, and the Docker Engine of this host has no runtime {RUNTIME!r}: install '
        'runsc and name it under "runtimes" in /etc/docker/daemon.json (docs/howto/run-untrusted-code.md)'
    )


def is_limited(runtimes: dict[str, Any]) -> bool:
    """Whether the host's kernel holds the limits of sandboxes."""
    arguments = (runtimes.get(RUNTIME) or {}).get("runtimeArgs") or []
    words = (str(argument).lstrip("-").partition("=") for argument in arguments)
    return not any(name == _IGNORES and value.lower() not in ("false", "0", "f") for name, _, value in words)


def taken(pid: int) -> int | None:
    """Bytes of memory that the sandbox of process `pid` has taken; None where it has ended.

    Raises EngineError where its memory can't be seen: the runner is not among the host's processes, or not root.
    """
    directory = Path(f"/proc/{pid}/fd")
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}"):
            return None
        raise EngineError(_unseen(f"there is no process {pid} here")) from None
    except OSError as error:
        raise EngineError(_unseen(f"process {pid}: {error.strerror}")) from None
    for name in names:
        try:
            if _MEMORY in os.readlink(directory / name):
                return os.stat(directory / name).st_blocks * _BLOCK
        except OSError:
            continue  # closed meanwhile
    if _is_sandbox(pid):
        raise EngineError(_unseen(f"process {pid} has no {_MEMORY}"))
    return None


def _is_sandbox(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"runsc-sandbox")
    except OSError:
        return False


def _unseen(why: str) -> str:
    return (
        f"the memory of a sandbox can't be seen, and so not limited ({why}): let runsc make cgroups (without "
        "--ignore-cgroups), or run the runner as root in the host's pid namespace"
    )
