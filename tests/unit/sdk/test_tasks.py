"""`@task`, its options, `local()` and `checkpoint`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import samovar
from samovar import NotInRun, NotSerializable, OptionError, Retry, checkpoint, current_run, task
from samovar.context import MemoryStore
from samovar.declare.options import DEFAULTS, resolve
from samovar.declare.registry import registry


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    kept = dict(registry)
    registry.clear()
    yield
    registry.clear()
    registry.update(kept)


def named(**options: Any) -> Any:
    def some_task() -> None: ...

    return task(**options)(some_task)


def test_with_and_without_parentheses_and_called_plainly() -> None:
    @task
    def add_two(n: int) -> int:
        "Adds."
        return n + 2

    @task(memory="1g")
    def other(n: int) -> int:
        return n

    assert (add_two.id, add_two.__doc__, add_two.options) == ("add-two", "Adds.", {})
    assert other.options == {"memory": 1024**3}
    assert add_two(3) == 5
    assert registry["add-two"] == [add_two]


def test_options_are_resolved() -> None:
    one = named(
        id="x.y_z-1",
        retry=Retry(max_attempts=5, min_delay="500ms", oom_memory="1g"),
        memory=64 * 1024**2,
        cpu=2,
        timeout="90s",
        ttl="1d",
        priority=-3,
        warm=False,
        network=["api.example.com:443"],
        secrets=["KEY"],
        trust="untrusted",
        mounts={"datasets": "/data"},
    )
    assert one.options == {
        "retry": {
            "max_attempts": 5, "factor": 2.0, "min_delay": 0.5, "max_delay": 60.0, "jitter": True,
            "oom_memory": 1024**3,
        },
        "memory": 64 * 1024**2, "cpu": 2.0, "timeout": 90.0, "ttl": 86400.0, "priority": -3, "warm": False,
        "network": ["api.example.com:443"], "secrets": ["KEY"], "trust": "untrusted",
        "mounts": {"datasets": "/data"},
    }  # fmt: skip
    assert resolve({"cpu": 2.0}, {"cpu": 3.0, "memory": 1}) == {**DEFAULTS, "cpu": 2.0, "memory": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "2m"}, "memory='2m' is 2 MiB, less than .* give \"32m\" or more"),
        ({"memory": "lots"}, "memory='lots': .* is not an amount of memory: give bytes, or text"),
        ({"memory": True}, "memory=True"),
        ({"memry": "1g"}, "unknown option 'memry': did you mean 'memory'"),
        ({"zzz": 1}, "unknown option 'zzz'; known are id, retry"),
        ({"cpu": 0}, "cpu=0: give a number of CPUs"),
        ({"cpu": float("nan")}, "cpu=nan"),
        ({"timeout": "soon"}, "timeout='soon': .* is not a duration"),
        ({"timeout": 0}, "timeout=0: give a duration from 0.1 s"),
        ({"ttl": -1}, "ttl=-1"),
        ({"priority": 1.5}, "priority=1.5: give a whole number"),
        ({"warm": "yes"}, "warm='yes': give True or False"),
        ({"isolation": "thread"}, "isolation='thread': give \"process\""),
        ({"isolation": "container", "warm": True}, "isolation='container' and warm=True .* Leave out warm"),
        ({"isolation": "process", "warm": False}, "isolation='process' and warm=False .* Leave out warm"),
        ({"isolation": "inline", "warm": False}, "isolation='inline' and warm=False .* Leave out warm"),
        ({"isolation": "inline", "start": "fresh"}, "isolation='inline' and start='fresh' .* Leave out one"),
        ({"isolation": "inline", "trust": "untrusted"}, "isolation='inline' and trust='untrusted'"),
        ({"network": "all"}, "network='all': give"),
        ({"network": ["example.com"]}, "network: 'example.com' is not \"host:port\""),
        ({"network": ["example.com:99999"]}, "network: 'example.com:99999'"),
        ({"secrets": "KEY"}, "secrets='KEY': give a list"),
        ({"secrets": ["A=B"]}, "secrets: 'A=B' is no name"),
        ({"trust": "me"}, "trust='me'"),
        ({"mounts": {"d": "data"}}, "give an absolute place"),
        ({"mounts": {"d": "/data/../etc"}}, "give an absolute place"),
        ({"mounts": {"d": "/proc/x"}}, "would hide part of the system"),
        ({"mounts": {"d": "/opt/samovar/env"}}, "would hide part of the system"),
        ({"mounts": {"a": "/data", "b": "/data"}}, "two names at '/data'"),
        ({"mounts": {"../x": "/data"}}, "is not a name"),
        ({"retry": 3}, r"retry=3: give Retry\(max_attempts=...\)"),
        ({"id": "a b"}, "id='a b': give 1 to 128 letters"),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_what_would_do(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        named(**options)
    assert "test_tasks.py:" in str(caught.value), "the place of the task is named"


@pytest.mark.parametrize(
    ("own", "defaults", "isolation"),
    [
        ({}, {}, "process"),
        ({"warm": False}, {}, "container"),
        ({"isolation": "container"}, {}, "container"),
        ({}, {"isolation": "inline"}, "inline"),
        ({}, {"warm": False}, "container"),
        ({"warm": True}, {"warm": False}, "process"),
        ({"warm": True}, {"isolation": "container"}, "process"),
        ({"warm": True}, {"isolation": "inline"}, "inline"),
        ({"warm": False}, {"isolation": "inline"}, "container"),
        ({"isolation": "inline"}, {"warm": False}, "inline"),
        ({"isolation": "process"}, {"isolation": "inline"}, "process"),
        ({"trust": "untrusted"}, {}, "process"),
    ],
)
def test_what_a_task_says_of_its_isolation_goes_before_the_defaults(
    own: dict[str, Any], defaults: dict[str, Any], isolation: str
) -> None:
    found = resolve(own, defaults)
    assert (found["isolation"], found["warm"]) == (isolation, isolation != "container")


@pytest.mark.parametrize(
    ("own", "defaults", "words"),
    [
        ({}, {"isolation": "container", "warm": True}, "isolation='container' and warm=True"),
        ({"isolation": "inline"}, {"start": "fresh"}, "start='fresh'"),
        ({"trust": "untrusted"}, {"isolation": "inline"}, "trust='untrusted'"),
    ],
)
def test_defaults_that_contradict_are_named(own: dict[str, Any], defaults: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resolve(own, defaults)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_attempts": 0}, r"Retry\(max_attempts=0\): give a whole number from 1"),
        ({"factor": 0.5}, r"Retry\(factor=0.5\)"),
        ({"min_delay": "10s", "max_delay": "1s"}, "shorter than min_delay"),
        ({"jitter": 1}, "jitter=1"),
        ({"retry_on": ("TimeoutError",)}, "'TimeoutError' is not an exception class"),
        ({"oom_memory": "1m"}, "oom_memory='1m'"),
    ],
)
def test_a_bad_retry_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Retry(**options)


def test_only_functions_are_tasks() -> None:
    with pytest.raises(OptionError, match="is a generator"):

        @task
        def stream() -> Iterator[int]:
            yield 1

    with pytest.raises(OptionError, match="for functions"):
        task(int)  # type: ignore[call-overload]


def test_local_runs_with_the_payload_as_json_and_keeps_checkpoints() -> None:
    calls: list[str] = []

    @task
    def job(n: int, scale: float = 1) -> dict[str, Any]:
        run = current_run()
        run.progress(0.5, "half")
        run.set_metadata("k", 1)
        run.extend_timeout("1m")
        value = checkpoint("fetch", lambda: calls.append("fetch") or (n, scale))
        again = checkpoint("fetch", lambda: calls.append("again"))
        if "fail" not in calls:
            calls.append("fail")
            raise RuntimeError("once")
        return {"value": value, "again": again, "replay": run.is_replay, "task": run.task}

    store = MemoryStore()
    with pytest.raises(RuntimeError, match="once"):
        job.local_with(store, n=1)
    assert job.local_with(store, n=1) == {"value": (1, 1.0), "again": (1, 1.0), "replay": False, "task": "job"}
    assert calls == ["fetch", "fail"]
    assert store.progress == {"fraction": 0.5, "message": "half"}
    assert store.metadata == {"k": 1}
    with pytest.raises(samovar.InvalidPayload, match="n: expected an integer"):
        job.local(n="1")
    with pytest.raises(NotInRun):
        current_run()


def test_local_checks_the_result_and_runs_async_tasks() -> None:
    @task
    def bad() -> Any:
        return object()

    @task
    async def slow(n: int) -> Any:
        async def double(x: int) -> int:
            return 2 * x

        return await asyncio.gather(*(checkpoint(f"k{i}", double, i) for i in range(n)))

    with pytest.raises(NotSerializable, match="result: an object"):
        bad.local()
    assert slow.local(n=3) == [0, 2, 4]

    async def inside() -> Any:
        return await slow.local(n=2)

    assert asyncio.run(inside()) == [0, 2]


def test_a_value_comes_back_from_its_encoding_the_first_time_too() -> None:
    @task
    def job() -> bool:
        given = {"a": [1]}
        stored = checkpoint("k", given)
        return stored == given and stored is not given and stored["a"] is not given["a"]

    assert job.local() is True


def test_steps_are_known_by_order_or_by_key() -> None:
    seen: list[Any] = []

    @checkpoint.step
    def step(n: int) -> int:
        seen.append(n)
        return n

    @checkpoint.step(key="charge-{order_id}")
    def charge(order_id: str, amount: int = 1) -> str:
        seen.append(order_id)
        return f"{order_id}:{amount}"

    @checkpoint.step(key="{nothing}")
    def broken(n: int) -> None: ...

    @task
    def job() -> list[Any]:
        return [step(1), step(2), charge("a"), charge("a", 2), charge("b")]

    @task
    def wrong() -> None:
        broken(1)

    store = MemoryStore()
    assert job.local_with(store) == [1, 2, "a:1", "a:1", "b:1"]
    assert job.local_with(store) == [1, 2, "a:1", "a:1", "b:1"]
    assert seen == [1, 2, "a", "b"]
    assert list(store.checkpoints) == ["step", "step#2", "charge-a", "charge-b"]
    with pytest.raises(OptionError, match=r"key='\{nothing\}'.*known: n"):
        wrong.local()
    assert step(7) == 7, "outside of a run it is a plain call"


def test_async_steps_take_their_keys_when_called() -> None:
    @checkpoint.step
    async def step(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @task
    async def job() -> list[int]:
        first, second = step(1), step(2)
        return [await second, await first]

    store = MemoryStore()
    assert job.local_with(store) == [2, 1]
    assert store.checkpoints == {"step": 1, "step#2": 2}
    assert list(store.checkpoints) == ["step#2", "step"]


@pytest.mark.parametrize("key", ["", "x" * 513, 1, None, "a\0b", "\ud800"])
def test_bad_keys_are_refused(key: Any) -> None:
    with pytest.raises(OptionError, match="a checkpoint's key is"):
        checkpoint(key, 1)


def test_a_coroutine_in_the_wrong_place_is_explained() -> None:
    async def fetch() -> int:
        return 1

    with pytest.raises(OptionError, match="give the function"):
        checkpoint("k", fetch())
    with pytest.raises(OptionError, match="give the coroutine function itself"):
        checkpoint("k", lambda: fetch())  # noqa: PLW0108
    with pytest.raises(OptionError, match="which is no function"):
        checkpoint("k", 5, 1)


def test_a_local_run_is_not_seen_by_other_threads() -> None:
    seen: list[Any] = []

    @task
    def job() -> None:
        def look() -> None:
            try:
                seen.append(current_run())
            except NotInRun:
                seen.append(None)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    job.local()
    assert seen == [None]


def test_bad_reports_are_named() -> None:
    @task
    def job(what: str) -> None:
        run = current_run()
        if what == "progress":
            run.progress(1.5)
        elif what == "key":
            run.set_metadata("", 1)
        elif what == "value":
            run.set_metadata("k", "x" * 20000)
        else:
            run.extend_timeout("soon")

    for what, words in [
        ("progress", r"progress\(1.5\)"),
        ("key", r"set_metadata\(''\)"),
        ("value", "metadata 'k': larger than"),
        ("extend", "'soon' is not a duration"),
    ]:
        with pytest.raises(samovar.SamovarError, match=words):
            job.local(what=what)
