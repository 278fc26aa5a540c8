"""What memory a task is advised to ask for."""

from __future__ import annotations

import pytest

from coordinator.foundation.limits import MIB
from coordinator.history import advice


def of(asked: int, p99: float | None, attempts: int = 300, oom: int = 0) -> tuple[str, int | None] | None:
    found = advice.memory(asked * MIB, None if p99 is None else p99 * MIB, attempts, oom)
    if found is None:
        return None
    return found.kind, None if found.advised_bytes is None else found.advised_bytes // MIB


@pytest.mark.parametrize(
    ("asked", "p99", "attempts", "oom", "expected"),
    [
        (512, 61, 300, 0, ("less", 96)),
        (512, 61, 99, 0, ("fits", None)),  # too few to give less
        (512, 204, 100, 0, ("less", 320)),
        (512, 210, 300, 0, ("fits", None)),
        (512, 460, 300, 0, ("fits", None)),
        (512, 461, 20, 0, ("more", 704)),
        (512, 512, 300, 0, ("more", 768)),
        (512, 300, 300, 1, ("more", 768)),
        (512, 61, 1, 1, ("more", 768)),
        (64, 3, 300, 0, ("less", 32)),
        (32, 3, 300, 0, ("fits", None)),  # no task may ask for less
        (512, 61, 19, 0, None),
        (512, None, 0, 5, None),
    ],
)
def test_it_is_what_the_attempts_needed_and_half_more(
    asked: int, p99: float | None, attempts: int, oom: int, expected: tuple[str, int | None] | None
) -> None:
    assert of(asked, p99, attempts, oom) == expected


def test_it_says_so() -> None:
    found = advice.memory(512 * MIB, 61 * MIB, 300)
    assert found is not None
    assert found.message == "asked 512 MiB, p99 of 300 attempts 61 MiB (12%): ask for 96 MiB"
    found = advice.memory(512 * MIB, 500 * MIB, 40, 3)
    assert found is not None
    assert found.message == "asked 512 MiB, p99 of 40 attempts 500 MiB (98%), 3 ran out of it: ask for 768 MiB"


def test_what_is_advised_is_never_less_than_what_was_needed() -> None:
    for p99 in range(1, 512, 7):
        found = of(512, p99)
        assert found is not None
        if found[1] is not None:
            assert found[1] >= 1.5 * p99
            assert found[1] % 32 == 0
