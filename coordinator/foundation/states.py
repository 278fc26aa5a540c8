"""The states of runs and attempts, and the only ways between them.

The guards of the UPDATEs take their sources from here, and docs/reference/states.md shows the same table
(a test compares them), so that what is written, what is guarded and what is documented are one thing.
"""

from __future__ import annotations

from typing import NamedTuple

NEW = "—"


class Transition(NamedTuple):
    source: str
    target: str
    #: The function that makes it, as module.function.
    by: str
    when: str


RUN: tuple[Transition, ...] = (
    Transition(NEW, "queued", "triggers.create", "triggered without a delay"),
    Transition(NEW, "delayed", "triggers.create", "triggered with a delay"),
    Transition(NEW, "canceled", "triggers.create", "triggered into a full queue that skips"),
    Transition("delayed", "queued", "sweep.due", "its time has come"),
    Transition("queued", "running", "claims.claim", "a runner took it"),
    Transition("queued", "canceled", "cancelling.cancel", "canceled before it was taken"),
    Transition("delayed", "canceled", "cancelling.cancel", "canceled before it was taken"),
    Transition("queued", "expired", "sweep.expired", "not taken within its ttl"),
    Transition("delayed", "expired", "sweep.expired", "not taken within its ttl"),
    Transition("queued", "timed_out", "sweep.overdue", "its total_timeout is over"),
    Transition("delayed", "timed_out", "sweep.overdue", "its total_timeout is over"),
    Transition("waiting", "timed_out", "sweep.overdue", "its total_timeout is over"),
    Transition("running", "completed", "attempts.end", "the attempt completed"),
    Transition("running", "failed", "attempts.end", "the attempt failed and is not tried again"),
    Transition("running", "timed_out", "attempts.end", "the attempt ran out of time and is not tried again"),
    Transition("running", "canceled", "attempts.end", "the attempt ended after a cancel was asked for"),
    Transition("running", "delayed", "attempts.end", "the attempt ended and is tried again later"),
    Transition("running", "queued", "attempts.end", "the attempt ended and is tried again at once"),
    Transition("running", "waiting", "attempts.end", "the attempt came to a wait"),
    Transition("waiting", "queued", "waits.wake", "something that it waits for has happened, or timed out"),
    Transition("waiting", "canceled", "cancelling.cancel", "canceled while it waited"),
)

ATTEMPT: tuple[Transition, ...] = (
    Transition(NEW, "claimed", "claims.claim", "a runner took the run"),
    Transition("claimed", "running", "attempts.start", "user code is about to run"),
    *(
        Transition(source, target, "attempts.end", when)
        for source in ("claimed", "running")
        for target, when in (
            ("completed", "it gave a result"),
            ("failed", "it raised, was refused by the host, or ran out of memory"),
            ("timed_out", "it ran out of time"),
            ("canceled", "it was ended because a cancel was asked for"),
            ("lost", "its container, its runner or its lease is gone"),
            ("suspended", "it came to a wait, and gave its container back"),
        )
    ),
)

#: A run that ended in one of these stands in the dead-letter list.
DEAD = ("failed", "timed_out")

#: An attempt in one of these holds a lease, memory and a slot.
LIVE = ("claimed", "running")


def sources(table: tuple[Transition, ...], by: str) -> list[str]:
    """The states that `by` may leave: what its guarded UPDATE names."""
    return list(dict.fromkeys(t.source for t in table if t.by == by and t.source != NEW))
