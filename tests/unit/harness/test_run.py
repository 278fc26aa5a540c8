"""A run from `assign` to `finish`: results, errors, checkpoints, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samovar import wire

from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]


def test_a_task_runs_and_returns_its_result(container: Make) -> None:
    one = container(
        """
        import datetime, decimal
        from samovar import task, current_run
        @task
        def add(a: int, b: int = 2) -> dict:
            run = current_run()
            return {"sum": a + b, "at": datetime.date(2025, 1, 31), "price": decimal.Decimal("1.10"),
                    "run": [run.id, run.attempt, run.task, run.project, run.version, run.tags, run.is_replay]}
        """
    )
    finish = one.run("add", payload={"a": 1})
    assert finish["outcome"] == wire.COMPLETED
    assert finish["result"] == {
        "sum": 3,
        "at": "2025-01-31",
        "price": "1.10",
        "run": ["r1", 1, "add", "p", "20250101.1", ["t"], False],
    }
    assert finish["usage"]["exit_code"] == 0
    assert finish["usage"]["peak_memory_bytes"] > 1024**2
    assert finish["container"]["clean"] is True
    kinds = [request["type"] for request in one.sidecar.requests]
    assert kinds == [wire.HELLO, wire.READY, wire.STARTED, wire.FINISH, wire.RELEASED]
    hello, ready = one.sidecar.requests[:2]
    assert (hello["protocol"], hello["attempt"]) == (wire.PROTOCOL, None)
    assert ready["error"] is None
    assert ready["memory"] > 1024**2


def test_an_async_task_runs_its_steps_at_the_same_time(container: Make) -> None:
    one = container(
        """
        import asyncio
        from samovar import task, checkpoint
        @checkpoint.step
        async def step(event, others, n):
            others.append(n)
            if len(others) == 20:
                event.set()
            await event.wait()      # only passes if all twenty are under way at once
            return n * n
        @task
        async def squares() -> list:
            event, others = asyncio.Event(), []
            return await asyncio.gather(*(step(event, others, n) for n in range(20)))
        """
    )
    finish = one.run("squares")
    assert finish["result"] == [n * n for n in range(20)]
    assert set(one.sidecar.checkpoints) == {"step", *(f"step#{n}" for n in range(2, 21))}


def test_an_exception_is_told_with_the_users_frames_and_its_cause(container: Make) -> None:
    one = container(
        """
        from samovar import task, checkpoint
        class OutOfStock(Exception): pass
        def look():
            raise KeyError("shelf 7")
        @task
        def sell():
            try:
                checkpoint("look", look)
            except KeyError as error:
                raise OutOfStock("none left") from error
        """
    )
    finish = one.run("sell")
    error = finish["error"]
    assert (finish["outcome"], error["type"], error["message"], error["reason"]) == (
        wire.FAILED,
        "OutOfStock",
        "none left",
        "exception",
    )
    assert finish["retry"] == {"allowed": True, "after": None}
    assert "in look" in error["traceback"]
    assert "in sell" in error["traceback"]
    assert "shelf 7" in error["traceback"]
    assert "direct cause" in error["traceback"]
    assert "/harness/" not in error["traceback"]
    assert "checkpoints.py" not in error["traceback"]


def test_the_exception_says_whether_to_try_again(container: Make) -> None:
    one = container(
        """
        import samovar
        from samovar import task, Retry
        @task(retry=Retry(retry_on=(TimeoutError,)))
        def only_timeouts(kind: str):
            raise {"timeout": TimeoutError, "value": ValueError}[kind]()
        @task(retry=Retry(give_up_on=(ValueError,)))
        def no_values():
            raise ValueError()
        @task
        def abort():
            raise samovar.Abort("no use")
        @task
        def later():
            raise samovar.RetryAfter("90s")
        """
    )
    expected = [
        ("only-timeouts", {"kind": "timeout"}, {"allowed": True, "after": None}),
        ("only-timeouts", {"kind": "value"}, {"allowed": False, "after": None}),
        ("no-values", {}, {"allowed": False, "after": None}),
        ("abort", {}, {"allowed": False, "after": None}),
        ("later", {}, {"allowed": True, "after": 90.0}),
    ]
    for number, (task, payload, retry) in enumerate(expected):
        assert one.run(task, f"a{number}", payload=payload)["retry"] == retry, task


def test_a_bad_payload_is_rejected_naming_every_field(container: Make) -> None:
    one = container("from samovar import task\n@task\ndef f(n: int, when: 'float' = 0): pass")
    finish = one.run("f", payload={"n": True, "x": 1})
    assert finish["error"]["reason"] == "rejected"
    assert "n: expected an integer, got true" in finish["error"]["message"]
    assert "x: unknown" in finish["error"]["message"]
    assert finish["retry"]["allowed"] is False
    missing = one.run("g", "a2")
    assert "no such task; it has f" in missing["error"]["message"]


def test_results_that_cannot_be_stored_are_refused_by_path(container: Make) -> None:
    one = container(
        """
        from samovar import task
        @task
        def nan(): return {"items": [1, {"x": float("nan")}]}
        @task
        def thing(): return object()
        @task
        def huge(): return "x" * (50 * 1024 * 1024)
        """
    )
    assert "result.items[1].x: a float that is not finite (nan)" in one.run("nan", "a1")["error"]["message"]
    assert "result: an object of type object" in one.run("thing", "a2")["error"]["message"]
    huge = one.run("huge", "a3")
    assert "52,428,800 bytes are more than the 10,485,760" in huge["error"]["message"]
    assert huge["retry"]["allowed"] is False
    assert one.run("nan", "a4")["outcome"] == wire.FAILED, "the container serves on"


def test_what_a_task_sends_past_the_sdk_is_checked_by_process_1(container: Make) -> None:
    one = container(
        """
        from samovar import task, current_run
        from samovar.context import current_run
        def nested(depth):
            value = 1
            for _ in range(depth): value = [value]
            return value
        @task
        def deep(depth: int):
            current_run().store.send({"type": "result", "value": nested(depth)})
        @task
        def put(depth: int):
            current_run().store.put("k", nested(depth))
        """
    )
    assert one.run("deep", "a1", payload={"depth": 150})["outcome"] == wire.COMPLETED
    refused = one.run("deep", "a2", payload={"depth": 151})
    assert (refused["outcome"], refused["error"]["type"]) == (wire.FAILED, "NotSerializable")
    assert "nested more than 150 deep" in refused["error"]["message"]
    assert "nested more than 150 deep" in one.run("put", "a3", payload={"depth": 151})["error"]["message"]


def test_a_result_of_nearly_the_largest_size_comes_through(container: Make) -> None:
    one = container("from samovar import task\n@task\ndef big(): return 'x' * (10 * 1024 * 1024 - 2)")
    assert len(one.run("big")["result"]) == 10 * 1024 * 1024 - 2


def test_checkpoints_are_stored_and_preloaded(container: Make, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    one = container(
        f"""
        import datetime, os
        from samovar import task, checkpoint, current_run
        def step(n):
            with open({str(ledger)!r}, "a") as file: file.write(f"{{n}}\\n")
            return (n, datetime.timedelta(seconds=n))
        @task
        def steps():
            seen = []
            for n in range(5):
                if n == 3 and current_run().attempt == 1:
                    os._exit(9)
                seen.append(current_run().is_replay)
                value = checkpoint(f"step-{{n}}", step, n)
                assert value == (n, datetime.timedelta(seconds=n)), value
            return seen
        """
    )
    first = one.run("steps")
    assert first["outcome"] == wire.FAILED
    assert "exited with code 9" in first["error"]["message"]
    stored = [{"key": key, "value": value} for key, value in one.sidecar.checkpoints.items()]
    assert len(stored) == 3
    second = one.run("steps", "a2", number=2, checkpoints=stored)
    assert second["result"] == [True, True, True, False, False]
    assert ledger.read_text() == "0\n1\n2\n3\n4\n"
    assert not one.sidecar.of(wire.CHECKPOINT_GET), "what is preloaded completely is not asked for"
    third = one.run("steps", "a3", number=3, checkpoints=stored[:1], checkpoints_complete=False)
    assert third["outcome"] == wire.COMPLETED
    assert len(one.sidecar.of(wire.CHECKPOINT_GET)) == 4
    assert ledger.read_text() == "0\n1\n2\n3\n4\n"


def test_the_stored_value_wins_over_the_one_computed(container: Make) -> None:
    one = container("from samovar import task, checkpoint\n@task\ndef f(): return checkpoint('k', 2)")
    one.sidecar.checkpoints["k"] = 1  # another attempt was faster
    assert one.run("f")["result"] == 1


def test_a_checkpoint_says_what_it_took(container: Make) -> None:
    one = container(
        """
        import asyncio, time
        from samovar import task, checkpoint
        def nap(): time.sleep(0.2)
        async def rest(): await asyncio.sleep(0.2)
        @checkpoint.step
        def step(): time.sleep(0.2)
        @task
        def f():
            time.sleep(0.2)
            checkpoint("value", 1)
            checkpoint("function", nap)
            step()
            async def inside(): await checkpoint("async", rest)
            asyncio.run(inside())
            checkpoint("long", "x" * 600_000)
        """
    )
    assert one.run("f")["outcome"] == "completed"
    took = {put["key"]: put["took_ms"] for put in one.sidecar.of(wire.CHECKPOINT_PUT)}
    assert 0 <= took["value"] < 100
    assert 0 <= took["long"] < 200
    assert all(200 <= took[key] < 1500 for key in ("function", "step", "async")), took
    # what is long comes last, so that who reads the line finds the rest before it
    assert list(one.sidecar.of(wire.CHECKPOINT_PUT)[-1])[-1] == "value"


def test_a_checkpoint_that_is_refused_raises_in_the_task(container: Make) -> None:
    one = container(
        """
        import samovar
        from samovar import task, checkpoint
        @task
        def f():
            try: checkpoint("k", 1)
            except samovar.CheckpointError as error: return str(error)
        """
    )
    one.sidecar.answer = lambda request: (
        wire.refusal(request, "stale_attempt", "no longer yours")
        if request["type"] == wire.CHECKPOINT_PUT
        else None
    )
    assert one.run("f")["result"] == "checkpoint 'k': no longer yours"


def test_progress_metadata_and_more_time_are_reported(container: Make) -> None:
    one = container(
        """
        from samovar import task, current_run
        @task
        def f():
            for n in range(1000):
                current_run().progress(n / 999, f"step {n}")
                current_run().set_metadata(f"k{n % 3}", n)
            current_run().extend_timeout("30m")
            current_run().extend_timeout("30m")
        """
    )
    assert one.run("f")["outcome"] == wire.COMPLETED
    reports = one.sidecar.of(wire.REPORT)
    assert 1 <= len(reports) < 1000, "reports are put together while one is on its way"
    progress = [report["progress"] for report in reports if report["progress"]]
    assert progress[-1] == {"fraction": 1.0, "message": "step 999"}
    metadata: dict[str, int] = {}
    for report in reports:
        metadata.update(report["metadata"] or {})
    assert metadata == {"k0": 999, "k1": 997, "k2": 998}
    assert [request["seconds"] for request in one.sidecar.of(wire.EXTEND)] == [1800.0, 3600.0]


def test_metadata_that_is_refused_is_told_in_the_log_by_its_key(container: Make) -> None:
    one = container(
        """
        from samovar import task, current_run
        @task
        def f(): current_run().set_metadata("heavy", "x")
        """
    )
    one.sidecar.answer = lambda request: (
        wire.refusal(request, "too_large", "metadata: 70000 bytes as JSON, the limit is 65536")
        if request["type"] == wire.REPORT
        else None
    )
    assert one.run("f")["outcome"] == wire.COMPLETED
    (said,) = one.messages(stream="samovar")
    assert said == "metadata heavy not kept: metadata: 70000 bytes as JSON, the limit is 65536"


def test_what_modules_say_in_the_zygotes_name_does_not_end_process_1(container: Make) -> None:
    """What a module leaves in the zygote shares its descriptors."""
    one = container(
        """
        import os, socket, stat
        from samovar import task
        lies = [b'{"forked": 1}', b'{"forked": 1e400}', b'{"exited": 1e400, "peak": 0}', b"[]", b"7", b'"ready"',
                b'{"exited": 0, "peak": ' + b"9" * 40 + b"}", b'{"ready": {}}', b"[" * 9000, b'{"forked": -1}']
        told = []
        def lie():
            for name in os.listdir("/proc/self/fd"):
                try:
                    if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                        control = socket.socket(fileno=os.dup(int(name)))
                        if control.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_SEQPACKET:
                            told.extend(control.send(line) for line in lies)
                except OSError: pass
        os.register_at_fork(before=lie)
        @task
        def f(): return len(told)
        """
    )
    assert one.run("f")["result"] == 10, "all of it was said"
    assert one.run("f", "a2")["result"] == 20


def test_each_run_starts_fresh_and_shares_the_imports(container: Make) -> None:
    one = container(
        """
        import os, random
        from samovar import task
        loaded = os.getpid()
        calls = []
        @task
        def f():
            calls.append(1)
            os.environ["LEFT"] = os.environ.get("LEFT", "") + "x"
            return [len(calls), os.environ["LEFT"], loaded == os.getppid(), random.random(), os.environ.get("KEY")]
        """
    )
    first = one.run("f", "a1", environment={"KEY": "secret"})["result"]
    second = one.run("f", "a2")["result"]
    assert first[:3] == second[:3] == [1, "x", True]
    assert first[3] != second[3]
    assert (first[4], second[4]) == ("secret", None)


def test_a_module_that_cannot_be_imported_fails_ready_and_the_run(container: Make) -> None:
    one = container("print('loading')\nimport nothing_of_that_name")
    finish = one.run("f")
    ready = one.sidecar.of(wire.READY)[0]
    assert ready["error"]["type"] == "ImportError"
    assert "there is no module 'nothing_of_that_name'" in ready["error"]["message"]
    assert "import nothing_of_that_name" in ready["error"]["traceback"]
    assert finish["outcome"] == wire.FAILED
    assert finish["error"]["type"] == "ImportError"
    assert "nothing_of_that_name" in finish["error"]["message"]
    assert one.messages() == ["loading"]
    assert not one.sidecar.of(wire.STARTED)


def test_a_crash_at_import_is_told_too(container: Make) -> None:
    one = container("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    ready = eventually(lambda: one.sidecar.of(wire.READY), "ready")[0]
    assert "SIGSEGV" in ready["error"]["message"]
    assert "SIGSEGV" in one.run("f")["error"]["message"]
    assert one.process.wait(10) == 1


def test_the_runs_process_holds_no_descriptor_but_its_own(container: Make) -> None:
    one = container(
        """
        import os, subprocess, sys
        from samovar import task
        @task
        def f():
            own = sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                         if os.path.exists(f"/proc/self/fd/{fd}"))
            code = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))"
            child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
            return {"own": own, "child": child.strip(), "oom": open("/proc/self/oom_score_adj").read().strip(),
                    "session": os.getsid(0) == os.getpid()}
        """
    )
    result = one.run("f")["result"]
    # null on stdin, a pipe each for stdout and stderr, the socket to process 1
    assert [kind for kind in result["own"] if not kind.startswith("/proc")] == [
        "/dev/null",
        "pipe",
        "pipe",
        "socket",
    ]
    assert result["child"] == "[0, 1, 2, 3]", "the fourth is its listing of them"
    assert result["oom"] == "1000"
    assert result["session"] is True


@pytest.mark.parametrize("first", ["reply", "ok"], ids=["as the sidecar writes it", "in another order"])
def test_a_long_answer_comes_through_whole(container: Make, first: str) -> None:
    code = """
    import samovar

    @samovar.task
    def job():
        values = [samovar.checkpoint(f"k{n}", lambda: None) for n in range(3)]
        return [[len(value["text"]), value["text"][:3], value["n"]] for value in values]
    """
    value = {"text": "ünd" * 1_000_000, "n": 1.5}

    def answer(request: wire.Message) -> wire.Message | None:
        if request["type"] != wire.CHECKPOINT_GET:
            return None
        reply = wire.reply(request, found=True, value=value)
        return {first: reply[first], **reply}

    one = container(code)
    one.sidecar.answer = answer
    assert one.run("job", checkpoints_complete=False)["result"] == [[3_000_000, "ünd", 1.5]] * 3
