"""What a hostile seat tries, and what holds it: each test of an attack is a line of docs/reference/isolation.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import pytest

Seat = Literal["run", "process 1", "build", "client", "neighbour"]

#: From where is attacked, in the order of the page.
SEATS: dict[Seat, str] = {
    "run": "Inside a run: a task's own code",
    "process 1": "A hostile process 1: an image with an interpreter of its own",
    "build": "A hostile build or deploy",
    "client": "A hostile client: no key, a low key, another project's key",
    "neighbour": "A hostile neighbour: what one project may cost another",
}
assert set(SEATS) == set(get_args(Seat))


@dataclass(frozen=True)
class Attempt:
    """One line of the page."""

    seat: Seat
    #: What is tried, in the words of who tries it.
    tried: str
    #: What holds.
    control: str
    #: What the attempt meets: an errno, a status or a limit.
    expected: str
    #: The same on gVisor, where that answers in another way; None where it is not tried there.
    runsc: str | None = None


def attempt(seat: Seat, tried: str, control: str, expected: str, runsc: str | None = None) -> pytest.MarkDecorator:
    """Marks a test, or one parameter of it (`pytest.param(…, marks=attempt(…))`), as this attempt."""
    return pytest.mark.attempt(Attempt(seat, tried, control, expected, runsc))
