"""What a helper process may take, in one place: memory, processor, files, and until when its work has to be done.

Three kinds read what hostile hands have written: the coordinator's readers of uploads and checkers of payloads,
and the runner's readers of projects. A fourth computes what would hold up everybody else. Each sets its limits
itself, before it reads anything; whoever has started it ends it at its deadline. A leaf beside `archive`:
`images` imports it as it is.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

#: Of an unpacked source: bytes, and files.
SOURCE_BYTES, SOURCE_FILES = 512 * 1024**2, 50_000
#: Of an archive: a file's header, its padding and some more.
_FOR_EACH_FILE = 4096


@dataclass(frozen=True)
class Confines:
    """The limits of one kind of process; None for what it is not held to."""

    #: Bytes of its address space.
    memory: int
    #: Seconds by the clock on the wall that its work may take.
    deadline: float
    #: Seconds of a processor, from its beginning to its end.
    processor: int | None = None
    #: Bytes of one file that it writes.
    file: int | None = None
    #: Files that it has open.
    descriptors: int | None = None
    #: Processes of its user, itself included: with 0 it starts none.
    processes: int | None = None

    def enter(self) -> None:
        """Holds this process to them, and those that it starts. Nothing leads back."""
        for what, most in (
            (resource.RLIMIT_AS, self.memory),
            (resource.RLIMIT_CPU, self.processor),
            (resource.RLIMIT_FSIZE, self.file),
            (resource.RLIMIT_NOFILE, self.descriptors),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_CORE, 0),
        ):
            if most is not None:
                resource.setrlimit(what, (most, most))


#: Reads an upload and writes it anew (deployments/repack.py).
UPLOADS = Confines(
    memory=512 * 1024**2,
    deadline=120.0,
    processor=60,
    file=SOURCE_BYTES + SOURCE_FILES * _FOR_EACH_FILE,
    processes=0,
)
#: Checks payloads (tasks/checker.py), one after another: the deadline is that of each, and so is its processor time
#: (`spend`).
PAYLOADS = Confines(memory=2 * 1024**3, deadline=3.0)
#: Reads what a project wrote (images/reading.py). An operator may set memory and deadline; of the processor it has
#: as many seconds as until its deadline.
PROJECTS = Confines(memory=1024**3, deadline=60.0, file=1024**3, descriptors=256)
#: Replays a day's starts for the what-if of the pool (keeping/replaying.py). They are rows of our own; a day that
#: is too much for it costs no more than this.
REPLAYS = Confines(memory=1024**3, deadline=20.0, processor=20, file=0, processes=0)


def spend(seconds: int) -> None:
    """Ends this process when it has used so many more seconds of a processor. A later call takes its place."""
    # the limit is of all that was used from the process's beginning; a soft one can be raised again
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
