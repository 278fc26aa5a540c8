"""What a run writes: lines, levels, bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from samovar import wire
from samovar.harness.logs import LINE_COST

from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]


def test_lines_come_with_stream_level_and_logger(container: Make) -> None:
    one = container(
        """
        import logging, sys, subprocess
        from samovar import task
        early = logging.StreamHandler(sys.stderr)      # bound to stderr before the run
        @task
        def f():
            print("out", flush=True)
            print("err", file=sys.stderr)
            logging.getLogger("shop.cart").warning("low on %s", "tea")
            logging.info("root")
            logging.debug("not wanted")
            try: 1 / 0
            except ZeroDivisionError: logging.exception("failed")
            subprocess.run(["echo", "from a child"])
            early.stream.write("late\\n")
            print("no newline", end="")
        """
    )
    finish = one.run("f")
    lines = one.sidecar.lines()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    seen = {line["message"].split("\n")[0]: (line["stream"], line["level"], line["logger"]) for line in lines}
    assert seen == {
        "out": ("stdout", "info", None),
        "err": ("stderr", "warning", None),
        "low on tea": ("logging", "warning", "shop.cart"),
        "root": ("logging", "info", "root"),
        "failed": ("logging", "error", "root"),
        "from a child": ("stdout", "info", None),
        "late": ("stderr", "warning", None),
        "no newline": ("stdout", "info", None),
    }
    assert any("ZeroDivisionError" in line["message"] for line in lines)
    assert all(abs(line["at"] - lines[0]["at"]) < 60 for line in lines)
    assert finish["dropped"] == 0


def test_basic_config_of_the_project_does_not_double_lines(container: Make) -> None:
    one = container(
        """
        import logging
        logging.basicConfig(level=logging.INFO)
        from samovar import task
        @task
        def f(): logging.info("once")
        """
    )
    one.run("f")
    assert one.messages() == ["once"]


def test_output_of_the_imports_is_in_the_log_of_the_first_run(container: Make) -> None:
    one = container("from samovar import task\nprint('imported')\n@task\ndef f(): print('ran')")
    one.run("f", "a1")
    one.run("f", "a2")
    assert one.messages("a1") == ["imported", "ran"]
    assert one.messages("a2") == ["ran"]


def test_lines_are_sent_while_the_task_runs(container: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = container(
        f"""
        import os, time
        from samovar import task
        @task
        def f():
            print("first")
            while not os.path.exists({str(gate)!r}): time.sleep(0.01)
        """
    )
    one.assign("f")
    eventually(lambda: one.messages() == ["first"], "the line before the end")
    assert not one.sidecar.of(wire.FINISH)
    gate.touch()
    assert one.finish()["outcome"] == wire.COMPLETED


def test_what_is_not_utf8_or_too_long_is_replaced_and_cut(container: Make) -> None:
    one = container(
        """
        import os
        from samovar import task
        @task
        def f():
            os.write(1, b"bad \\xff\\xfe bytes\\n")
            os.write(1, b"nul \\x00\\r\\n")
            os.write(1, b"\\xc3" * 20000 + b"\\n")
            for _ in range(100): os.write(1, b"y" * 1000)
            os.write(1, b"\\nafter\\n")
            print("surrogate \\udc80")
        """
    )
    assert one.run("f")["outcome"] == wire.COMPLETED
    bad, nul, wide, long, after, surrogate = one.messages()
    assert bad == "bad \ufffd\ufffd bytes"
    assert nul == "nul \ufffd"
    assert len(wide.encode()) <= wire.MAX_LOG_MESSAGE
    assert len(long.encode()) <= wire.MAX_LOG_MESSAGE
    kept = long.count("y") - long[long.index("…") :].count("y")
    assert long.endswith(f"[{100_000 - kept} more bytes were cut]")
    assert after == "after"
    assert surrogate == "surrogate \\udc80"


def test_200_mb_of_output_is_bounded_counted_and_does_not_grow_process_1(container: Make) -> None:
    one = container(
        """
        import os
        from samovar import task
        @task
        def f():
            block = (b"z" * 99 + b"\\n") * 10000
            for _ in range(200):
                data = block
                while data: data = data[os.write(1, data):]
            return "done"
        @task
        def quiet(): pass
        """
    )
    one.run("quiet", "a0")
    before = resident(one)
    finish = one.run("f")
    assert finish["result"] == "done"
    lines = one.sidecar.lines()
    kept = sum(len(line["message"]) + LINE_COST for line in lines if line["stream"] == "stdout")
    assert kept <= wire.MAX_LOG_BYTES + wire.MAX_LOG_MESSAGE
    assert kept > wire.MAX_LOG_BYTES * 0.99
    (note,) = [line for line in lines if line["stream"] == "samovar"]
    written = 200 * 1_000_000
    # what was kept lost its newlines
    assert finish["dropped"] == written - 100 * (len(lines) - 1)
    assert str(finish["dropped"]) in note["message"]
    assert resident(one) - before < 16 * 1024**2


def test_a_flood_of_empty_lines_and_of_records_is_bounded(container: Make) -> None:
    one = container(
        """
        import logging, os
        from samovar import task
        @task
        def f():
            for _ in range(20): os.write(1, b"\\n" * 50000)
            log = logging.getLogger("flood")
            for n in range(20000): log.info("x" * 100)
        """
    )
    finish = one.run("f")
    assert finish["outcome"] == wire.COMPLETED
    assert finish["dropped"] > 1_000_000
    assert len(one.sidecar.lines()) <= wire.MAX_LOG_BYTES / LINE_COST + 2


def test_one_batch_of_lines_is_under_way_at_a_time(container: Make) -> None:
    one = container(
        """
        from samovar import task
        @task
        def f():
            for n in range(30000): print("line", n)
        """
    )
    one.sidecar.silent.add(wire.LOG)
    one.assign("f")
    first = eventually(lambda: one.sidecar.of(wire.LOG), "a batch")
    assert len(first) == 1
    one.sidecar.silent.clear()
    one.sidecar.send(wire.reply(first[0]))
    assert one.finish()["outcome"] == wire.COMPLETED
    assert one.messages() == [f"line {n}" for n in range(30000)]


def resident(one: Container) -> int:
    words = Path(f"/proc/{one.process.pid}/statm").read_text().split()
    return int(words[1]) * 4096
