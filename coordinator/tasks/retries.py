"""What becomes of a run when an attempt ends: one pure function, decided by numbers alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from coordinator.foundation.limits import PLATFORM_RETRIES

#: Gives a number in [0, 1).
Random = Callable[[], float]

End = Literal[
    "completed", "failed", "out_of_memory", "timed_out", "canceled", "rejected", "lost", "waiting", "no_image"
]

_LONGEST_PLATFORM_DELAY = 10.0


@dataclass(frozen=True)
class Policy:
    """A task's `retry` option, resolved: delays in seconds, memory in bytes."""

    max_attempts: int = 1
    factor: float = 2.0
    min_delay: float = 1.0
    max_delay: float = 60.0
    jitter: bool = True
    oom_memory: int | None = None


@dataclass(frozen=True)
class SoFar:
    """The run as the attempt's end finds it. `failures`, `ooms` and `losses` count earlier attempts."""

    memory: int
    failures: int = 0
    ooms: int = 0
    losses: int = 0
    cancel_requested: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the run becomes. `delay` is for `queued` (0) and `delayed`; the rest are the new counts."""

    status: Literal["queued", "delayed", "waiting", "completed", "failed", "canceled", "timed_out"]
    delay: float
    memory: int
    failures: int
    ooms: int
    losses: int


def backoff(policy: Policy, failures: int, rng: Random = random.random) -> float:
    """Seconds before the attempt after the `failures`-th failed one (counted from 1)."""
    # the exponent is bounded so that a long row of failures does not overflow a float
    delay = min(policy.max_delay, policy.min_delay * policy.factor ** min(failures - 1, 64))
    return delay * (0.5 + 0.5 * rng()) if policy.jitter else delay


def decide(
    end: End,
    so_far: SoFar,
    policy: Policy,
    *,
    retry_allowed: bool = True,
    retry_after: float | None = None,
    largest_memory: int | None = None,
    left: float | None = None,
    resolved: bool = False,
    rng: Random = random.random,
) -> Verdict:
    """The fate of a run whose attempt ended with `end`.

    `retry_allowed` and `retry_after` are what the exception said. `largest_memory` is the most that any
    live runner gives one task: more would never be claimed. `left` is what is left of the run's whole time, in
    seconds: an attempt that could not begin within it is not made. `resolved`: something that it waits for has
    happened.
    """
    failures, ooms, losses, memory = so_far.failures, so_far.ooms, so_far.losses, so_far.memory

    def verdict(
        status: Literal["queued", "delayed", "waiting", "completed", "failed", "canceled", "timed_out"],
        delay: float = 0.0,
    ) -> Verdict:
        return Verdict(status, delay, memory, failures, ooms, losses)

    if end == "completed":
        return verdict("completed")
    if end == "no_image":
        # nothing was tried: the run waits in its old place until the image is built again
        return verdict("canceled" if so_far.cancel_requested else "queued")
    if end == "waiting":
        return verdict("canceled" if so_far.cancel_requested else "queued" if resolved else "waiting")
    # an attempt that was ended as canceled though nobody asked was ended by the platform (a runner going down)
    if end == "lost" or (end == "canceled" and not so_far.cancel_requested):
        losses += 1
        if so_far.cancel_requested:
            return verdict("canceled")
        if losses > PLATFORM_RETRIES:
            return verdict("failed")
        delay = 0.0 if losses == 1 else min(_LONGEST_PLATFORM_DELAY, 2.0 ** (losses - 2))
        if left is not None and delay >= left:
            return verdict("timed_out")
        return verdict("delayed" if delay else "queued", delay)
    if end == "canceled":
        return verdict("canceled")

    failures += 1
    again = retry_allowed and failures < policy.max_attempts and end != "rejected"
    if end == "out_of_memory":
        ooms += 1
        more = policy.oom_memory or 0
        if largest_memory is not None:
            more = min(more, largest_memory)
        if more > memory:
            memory = more if again else memory
        else:
            # the same memory again is worth one try: what filled it may have been chance
            again = again and ooms == 1
    # whatever the attempt did, a run that was asked to stop is not started again
    if so_far.cancel_requested:
        return verdict("canceled")
    if again:
        delay = backoff(policy, failures, rng) if retry_after is None else retry_after
    if again and (left is None or delay < left):
        return verdict("delayed" if delay > 0 else "queued", delay)
    return verdict("timed_out" if end == "timed_out" else "failed")
