"""Who counts as sharing the host."""

from __future__ import annotations

from sidecar.sharing import _LATELY, Sharing


def test_who_was_here_lately_counts_and_who_was_here_before_does_not() -> None:
    here = {"a"}
    now = 100.0
    sharing = Sharing(lambda: here, lambda: now)
    assert sharing.count() == 1
    here = {"a", "b"}
    assert sharing.count() == 2
    # between two of its short runs
    here = {"a"}
    now += _LATELY / 2
    assert sharing.count() == 2
    here = {"a", "b"}
    assert sharing.count() == 2
    here = {"a"}
    now += _LATELY
    assert sharing.count() == 1


def test_what_is_kept_does_not_grow_with_the_projects_that_there_have_been() -> None:
    now = 100.0
    here: list[str] = []
    sharing = Sharing(lambda: here, lambda: now)
    for number in range(1000):
        here = [f"p{number}"]
        now += _LATELY
        assert sharing.count() == 1
    assert len(sharing._seen) == 1
    here = []
    assert sharing.count() == 1
