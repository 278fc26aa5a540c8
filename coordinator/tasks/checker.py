"""The process that checks what may take long: `[schema, payload]` a line, the problems a line (see `checking`)."""

from __future__ import annotations

import functools
import json
import resource
import sys
from typing import Any

from coordinator.tasks import payloads, validation

_MEMORY = 2 * 1024**3


@functools.lru_cache(64)
def _validator(schema: str) -> Any:
    return validation.validator(json.loads(schema))


def main() -> None:
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    say, hear = sys.stdout.buffer, sys.stdin.buffer
    say.write(b"ready\n")
    say.flush()
    for line in hear:
        # also without the one who kills it: the soft limit is processor time from the process's beginning
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        schema, payload = json.loads(line)
        found = payloads.find(_validator(schema), payload, 0, float("inf"))
        say.write(json.dumps([problem.model_dump() for problem in found]).encode() + b"\n")
        say.flush()


if __name__ == "__main__":
    main()
