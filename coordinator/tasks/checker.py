"""The process that checks what may take long: `[schema, payload]` a line, the problems a line (see `checking`)."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

from coordinator import confined
from coordinator.tasks import payloads, validation


@functools.lru_cache(64)
def _validator(schema: str) -> Any:
    return validation.validator(json.loads(schema))


def main() -> None:
    seconds = int(sys.argv[1])
    confined.PAYLOADS.enter()
    say, hear = sys.stdout.buffer, sys.stdin.buffer
    say.write(b"ready\n")
    say.flush()
    for line in hear:
        confined.spend(seconds + 1)  # also without the one who kills it
        schema, payload = json.loads(line)
        found = payloads.find(_validator(schema), payload, 0, float("inf"))
        say.write(json.dumps([problem.model_dump() for problem in found]).encode() + b"\n")
        say.flush()


if __name__ == "__main__":
    main()
