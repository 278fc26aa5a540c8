"""The tests of joint writes are tested: each of these bugs, put into the coordinator, is found by one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator.access.keys import AttemptSecrets
from coordinator.api.fleet import together
from coordinator.foundation.turns import Job
from coordinator.storage.groups import Groups
from tests.conformance.attempts import test_joint as joint
from tests.conformance.attempts.test_joint import Served, served

Plant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[Served], None]

__all__ = ["served"]


def one_takes_its_neighbours_down(patch: pytest.MonkeyPatch) -> None:
    """No savepoints: what one raises is what all of the group hear."""

    def inside(self: Groups, conn: Connection, job: Job, done: list[Any]) -> None:
        done.append(type(done[0])(job))
        done[-1].result = self._call(conn, job)

    def all_of_them(self: Groups, done: list[Any], error: BaseException) -> None:
        for each in done:
            self._tell(type(each)(each.job, error=error))

    patch.setattr(Groups, "_inside", inside)
    patch.setattr(Groups, "_one_by_one", all_of_them)


def half_of_one_is_kept(patch: pytest.MonkeyPatch) -> None:
    """What a function wrote before it raised is committed with its neighbours."""

    def inside(self: Groups, conn: Connection, job: Job, done: list[Any]) -> None:
        done.append(type(done[0])(job))
        try:
            done[-1].result = self._call(conn, job)
        except BaseException:
            done[-1].result = None

    patch.setattr(Groups, "_inside", inside)


def answered_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    real_call, real_tell = Groups._call, Groups._tell

    def call(self: Groups, conn: Connection, job: Job) -> Any:
        result = real_call(self, conn, job)
        if job.name == "finish" and not job.future.done():
            job.future.set_result(result)
        return result

    def tell(self: Groups, each: Any) -> None:
        if not each.job.future.done():
            real_tell(self, each)

    patch.setattr(Groups, "_call", call)
    patch.setattr(Groups, "_tell", tell)


def order_of_an_attempt_lost(patch: pytest.MonkeyPatch) -> None:
    real = together._begin
    patch.setattr(together, "_begin", lambda core, items: real(core, items[::-1]))


def one_secret_opens_all(patch: pytest.MonkeyPatch) -> None:
    """A secret that was right for an item is right for those after it."""
    real, seen = AttemptSecrets.check, set[str]()

    def check(self: AttemptSecrets, attempt: str, secret: str) -> bool:
        if real(self, attempt, secret):
            seen.add(secret)
        return secret in seen

    patch.setattr(AttemptSecrets, "check", check)


def applied_to_another_items_attempt(patch: pytest.MonkeyPatch) -> None:
    """An item is done with the arguments of the one before it."""
    real = together._begin

    def begin(core: Any, items: list[Any]) -> None:
        writes = [item.write for item in items]
        for item, write in zip(items[1:], writes, strict=False):
            same = write is not None and item.write is not None and write.function is item.write.function
            item.write = write if same else item.write
        real(core, items)

    patch.setattr(together, "_begin", begin)


BUGS: list[tuple[Plant, Check]] = [
    (one_takes_its_neighbours_down, joint.test_each_item_is_refused_on_its_own),
    (half_of_one_is_kept, joint.test_each_item_is_refused_on_its_own),
    (answered_before_the_commit, joint.test_a_commit_that_fails_is_503_for_each_and_leaves_nothing),
    (order_of_an_attempt_lost, joint.test_a_run_that_is_short_begins_and_ends_in_one_call),
    (one_secret_opens_all, joint.test_each_item_is_refused_on_its_own),
    (applied_to_another_items_attempt, joint.test_many_items_are_few_commits),
]


@pytest.mark.parametrize(("plant", "check"), BUGS, ids=lambda each: str(each.__name__))
def test_a_planted_bug_is_found(
    plant: Plant, check: Check, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check(served)
