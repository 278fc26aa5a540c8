"""What a task should ask for, from what its attempts needed: pure functions of a few numbers."""

from __future__ import annotations

import math

from coordinator.foundation.limits import MIB, MIN_MEMORY
from coordinator.wire import MemoryAdvice

#: Attempts of which the peak is known, so that anything is said; so that less is advised.
_FEW, _ENOUGH = 20, 100
#: At most so much of what was asked is too little use of it, and at least so much is too near to it.
_LITTLE, _NEAR = 0.4, 0.9
#: How much more than p99 is advised (which may be off by a tenth), in steps of so many bytes.
_ROOM = 1.5
_STEP = 32 * MIB


def memory(asked: int, p99: float | None, attempts: int, out_of_memory: int = 0) -> MemoryAdvice | None:
    """`asked`: bytes that the task asks for; `p99`: of the peaks of `attempts`. None where too little is known."""
    if p99 is None or (attempts < _FEW and not out_of_memory):
        return None
    share = p99 / asked
    # what ran out of memory would have needed more than it could have
    wanted = max(p99 * _ROOM, asked * _ROOM if out_of_memory else 0.0)
    advised: int | None = max(MIN_MEMORY, math.ceil(wanted / _STEP) * _STEP)
    assert advised is not None
    said = f"asked {_mib(asked)}, p99 of {attempts} attempts {_mib(p99)} ({share:.0%})"
    if out_of_memory:
        kind, said = "more", f"{said}, {out_of_memory} ran out of it: ask for {_mib(advised)}"
    elif share >= _NEAR:
        kind, said = "more", f"{said}: near the limit, ask for {_mib(advised)}"
    elif share <= _LITTLE and attempts >= _ENOUGH and advised < asked:
        kind, said = "less", f"{said}: ask for {_mib(advised)}"
    else:
        kind, advised, said = "fits", None, f"{said}: it fits"
    return MemoryAdvice(
        kind=kind,
        asked_bytes=asked,
        p99_bytes=round(p99),
        attempts=attempts,
        out_of_memory=out_of_memory,
        share=share,
        advised_bytes=advised,
        message=said,
    )


def _mib(size: float) -> str:
    return f"{size / MIB:.0f} MiB"
