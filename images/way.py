"""The way out of a builder that downloads: a socket to the host's egress, and a relay to it on loopback.

Such a builder has no network. Whoever has the build carried out opens a door for it, to hosts that are named here,
for as long as the one step takes; without one (`python -m images` by itself) the builder has Docker's bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import samovar.wire

from images.errors import InstallError
from images.host import Reach
from images.stock import Missed

#: The code of a build's error where it asked for a host that it may not reach.
HOST_REFUSED = "host_refused"
#: Where the relay listens in a builder.
PROXY = f"http://{samovar.wire.EGRESS_PROXY}"
#: Codes of errors that an index which does not answer may be behind.
_FOR_WANT = {InstallError.code, "requirement_not_found", "package_not_found", "index_unreachable"}
#: Refusals that an error names.
_NAMED = 5
#: Of the SDK's harness, what the relay needs; and what that needs of the rest.
_RELAY = ("relayed.py", "relay.py", "listeners.py", "kernel.py")
_OTHERS = ("values/files.py",)
_PACKAGES = ("", "harness/", "values/")


@dataclass(frozen=True)
class Refusal:
    """A host that a step did not get to. `named`: it might have, but that one does not answer, say."""

    reason: str
    named: bool


class Door(Protocol):
    """A door that is open: `directory` of the host has its socket, and is lent to the builder."""

    directory: Path

    def close(self) -> list[Refusal]:
        """Nothing gets out from here on; what was refused while it was open."""


#: Opens a door. Raises BuildError.
Way = Callable[[Reach], Door]


@dataclass(frozen=True)
class Out:
    """What a builder gets to download with: a door's directory, or (None) Docker's bridge."""

    directory: Path | None


@contextmanager
def way_out(way: Way | None, reach: Reach | None) -> Iterator[Out | None]:
    """The way out for one step that downloads from `reach`; none where that is None.

    An InstallError of that step says what was refused meanwhile.
    """
    if reach is None:
        yield None
        return
    if way is None:
        yield Out(None)
        return
    door = way(reach)
    failed: InstallError | Missed | None = None
    try:
        yield Out(door.directory)
    except (InstallError, Missed) as error:
        failed = error
    finally:
        refused = door.close()
    if isinstance(failed, Missed):
        raise Missed(failed.requirement, explained(failed.error, refused)) from None
    if failed is not None:
        raise explained(failed, refused) from None


def explained(error: InstallError, refused: list[Refusal]) -> InstallError:
    """`error` with what was refused while it came about."""
    asked = [each.reason for each in refused if not each.named]
    failed = [each.reason for each in refused if each.named]
    fields = {field.path: field.message for field in error.problem.fields}
    if asked and error.problem.code != HOST_REFUSED:
        return InstallError(
            "a build reaches the host's package index and what the operator adds to it, and this one asked for "
            f"more: {'; '.join(asked[:_NAMED])}. Then it failed: {error.problem.message}",
            code=HOST_REFUSED,
            fields=fields,
        )
    if failed and error.problem.code in _FOR_WANT:
        return InstallError(
            f"not all that a build downloads from was there: {'; '.join(failed[:_NAMED])}. Then it failed: "
            f"{error.problem.message}",
            code="index_unreachable",
            fields=fields,
        )
    return error


def relay_files() -> dict[str, bytes]:
    """What is handed to a builder that has a door: the SDK's relay, with nothing else of it."""
    root = Path(samovar.wire.__file__).parent
    names = (*(f"harness/{name}" for name in _RELAY), *_OTHERS)
    files = {f"relay/samovar/{name}": (root / name).read_bytes() for name in names}
    # without what the SDK's packages import when they are
    return {**files, **{f"relay/samovar/{package}__init__.py": b"" for package in _PACKAGES}}


def relayed(lent: str, command: list[str]) -> list[str]:
    """`command` with the relay beside it, in a builder that sees what it is lent at `lent`."""
    socket = f"{lent}/way/{samovar.wire.EGRESS_NAME}"
    program = f"{lent}/in/relay/samovar/harness/relayed.py"
    return ["python3", "-I", "-S", program, socket, samovar.wire.EGRESS_PROXY, *command]
