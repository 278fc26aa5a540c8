"""Who counts as sharing the host."""

from __future__ import annotations

import pytest

from sidecar.sharing import _LATELY, Sharing


class Host:
    """A host whose clock moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sharing = Sharing(lambda: self.now)
        self.come, self.go, self.count = self.sharing.come, self.sharing.go, self.sharing.count


@pytest.fixture
def host() -> Host:
    return Host()


def test_who_was_here_lately_counts_and_who_was_here_before_does_not(host: Host) -> None:
    assert host.count() == 0
    host.come("a")
    assert host.count() == 1
    host.come("b")
    assert host.count() == 2
    # between two of its short runs
    host.go("b")
    host.now += _LATELY / 2
    assert host.count() == 2
    host.come("b")
    host.now += 10 * _LATELY
    assert host.count() == 2
    host.go("b")
    host.now += _LATELY
    assert host.count() == 1


def test_a_project_is_here_until_its_last_attempt_has_gone(host: Host) -> None:
    host.come("a")
    host.come("b")
    host.come("b")
    host.go("b")
    host.now += 10 * _LATELY
    assert host.count() == 2
    host.go("b")
    host.now += _LATELY
    assert host.count() == 1


def test_what_is_kept_does_not_grow_with_the_projects_that_there_have_been(host: Host) -> None:
    for number in range(1000):
        host.come(f"p{number}")
        host.now += _LATELY
        host.go(f"p{number}")
    assert len(host.sharing._gone) == 1
    assert not host.sharing._here
    host.now += _LATELY
    assert host.count() == 0
