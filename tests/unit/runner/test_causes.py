"""Why a run had a container started for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.wire import Cause, Leaving, Whose
from runner.causes import Causes
from runner.spec import ContainerKey

KEY = ContainerKey("p", "image:1", 1, 1.0, "none", (), "project", 128, 1)
OTHER = Whose(project="other", task="report")


def test_the_first_of_a_task_the_same_again_and_a_new_version() -> None:
    causes = Causes()
    assert causes.of(KEY, "t", others=False) == ("first", None)
    assert causes.of(KEY, "t", others=True) == ("parallel", None)
    assert causes.of(replace(KEY, image="image:2"), "t", others=False) == ("version", None)
    assert causes.of(replace(KEY, memory=2), "u", others=False) == ("first", None), "another task of the project"


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        ("evicted", "evicted"),
        ("runs", "limit"),
        ("age", "limit"),
        ("unclean", "unclean"),
        ("grew", "leak"),
        ("died", "died"),
        ("ended", "died"),
        ("failed", "failed"),
        ("expired", "expired"),
        ("superseded", "version"),
    ],
)
def test_what_the_last_one_left_for(why: Leaving, cause: Cause) -> None:
    causes = Causes()
    causes.of(KEY, "t", others=False)
    causes.left(KEY, why, OTHER if why == "evicted" else None)
    assert causes.of(KEY, "t", others=False) == (cause, OTHER if why == "evicted" else None)
    assert causes.of(KEY, "another of the project", others=False)[0] == cause, "the key is what counts"


def test_a_container_that_nobody_waited_for_leaves_the_cause_as_it_was() -> None:
    causes = Causes()
    causes.left(KEY, "grew", None)
    causes.left(KEY, "unwanted", None)
    causes.left(KEY, "not_kept", None)  # of another task of the project, with the same limits
    assert causes.of(KEY, "t", others=False) == ("leak", None)


def test_what_is_remembered_is_bounded() -> None:
    causes = Causes()
    for number in range(10_050):
        key = replace(KEY, image=f"image:{number}")
        causes.of(key, f"t{number}", others=False)
        causes.left(key, "grew", None)
    assert (len(causes._left), len(causes._keys)) == (10_000, 10_000)
