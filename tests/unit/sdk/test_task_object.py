"""A task is an object like a function: it pickles by where it is, and copies are itself."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
from samovar import task


@task(id="double-of-the-tests")
def double(n: int) -> int:
    return n * 2


class Holder:
    @task(id="inner-of-the-tests")
    @staticmethod
    def inner(n: int) -> int:
        return n + 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_by_module_and_name(protocol: int) -> None:
    data = pickle.dumps({"job": double}, protocol)
    assert pickle.loads(data)["job"] is double
    assert b"double" in data
    assert pickle.loads(pickle.dumps(Holder.inner, protocol)) is Holder.inner


def test_copies_are_the_task_itself() -> None:
    assert copy.copy(double) is double
    assert copy.deepcopy([double])[0] is double


def test_with_options_it_keeps_them() -> None:
    urgent = double.with_options(priority=10, tags=["a"])
    back = pickle.loads(pickle.dumps(urgent))
    assert back.function is double.function
    assert back.trigger_options == {"priority": 10, "tags": ["a"]}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes_calls_it(method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(double, [1, 2, 3])) == [2, 4, 6]


def test_one_inside_a_function_says_why_it_cannot() -> None:
    @task(id="local-of-the-tests")
    def local() -> None: ...

    with pytest.raises(pickle.PicklingError, match="define it at the top level of a module"):
        pickle.dumps(local)
    assert copy.deepcopy(local) is local
