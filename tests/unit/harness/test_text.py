"""Text of a run comes through as it was written: in order, whole at both ends, soon, with its levels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samovar import wire
from samovar.harness.logs import HEAD, TAIL

from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]


def gated(body: str, gate: Path) -> str:
    """A task that does `body`, then waits for the file `gate`, then does what is in `after`."""
    return f"""
import logging, os, subprocess, sys, time
from samovar import task
def wait():
    while not os.path.exists({str(gate)!r}): time.sleep(0.01)
@task
def f():
{body}
"""


@pytest.mark.parametrize(
    "write",
    [
        "print('loading... ', end='')",
        "print('load', end=''); print('ing... ', end='')",
        "sys.stdout.write('loading... ')",
        "sys.stdout.write('loading... '); sys.stdout.flush()",
        "os.write(1, b'loading... ')",
        "subprocess.run(['printf', 'loading... '])",
        "print('loading... ', end='', file=sys.stderr)",
    ],
)
def test_a_line_without_its_end_is_seen_while_the_task_waits(container: Make, tmp_path: Path, write: str) -> None:
    gate = tmp_path / "gate"
    one = container(gated(f"    {write}\n    wait()\n    print('done', flush=True)", gate))
    one.assign("f")
    eventually(lambda: one.messages() == ["loading... "], "the line before its end", deadline=5)
    (line,) = one.sidecar.lines()
    assert line["partial"] is True
    gate.touch()
    assert one.finish()["outcome"] == wire.COMPLETED
    if "stderr" in write:
        assert sorted(one.messages()) == ["done", "loading... "]
    else:
        assert one.messages() == ["loading... done"]
    assert not any(line.get("partial") for line in one.sidecar.lines())


def test_a_progress_bar_shows_its_state_and_keeps_its_last(container: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bar = (
        "    for n in range(3001):\n"
        "        sys.stderr.write(f'\\r{n // 30}% ' + '#' * 40); sys.stderr.flush()\n"
        "        if n == 1500: wait()\n"
        "    sys.stderr.write('\\n')"
    )
    one = container(gated(bar, gate))
    one.assign("f")
    eventually(lambda: one.messages()[-1:] == ["50% " + "#" * 40], "the state it has", deadline=5)
    gate.touch()
    one.finish()
    assert one.messages() == ["100% " + "#" * 40]


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        (rb"1%\r2%\r3%", ["3%"]),
        (rb"1%\r2%\r3%\r", ["3%"]),
        (rb"1%\r2%\r\n", ["2%"]),
        (rb"windows\r\nlines\r\n", ["windows", "lines"]),
        (rb"\rone\rtwo\nthree\n", ["two", "three"]),
        (rb"a\r\r\nb", ["a", "b"]),
        (rb"\n\nx", ["", "", "x"]),
        (rb"x\n" + b"9" * 40000 + rb"\rlast\n", ["x", "last"]),
    ],
)
def test_of_what_is_written_over_the_last_stands(container: Make, written: bytes, lines: list[str]) -> None:
    text = written.decode()
    one = container(f"import os\nfrom samovar import task\n@task\ndef f(): os.write(1, b'{text}')")
    one.run("f")
    assert one.messages() == lines


def test_a_bar_that_writes_one_byte_at_a_time_and_umlauts_in_two(container: Make) -> None:
    one = container(
        """
        import os
        from samovar import task
        @task
        def f():
            for byte in "1 %\\r2 %\\rä→🫖 bis zum Schluß\\nweiter".encode():
                os.write(1, bytes([byte]))
        """
    )
    one.run("f")
    assert one.messages() == ["ä→🫖 bis zum Schluß", "weiter"]


def test_stdout_stderr_and_logging_stay_in_the_order_they_were_written(container: Make) -> None:
    one = container(
        """
        import logging, sys
        from samovar import task
        log = logging.getLogger("shop")
        @task
        def f():
            for n in range(500):
                print("out", n)
                print("err", n, file=sys.stderr)
                log.info("log %s", n)
                sys.stdout.buffer.write(b"raw %d\\n" % n); sys.stdout.flush()
        """
    )
    one.run("f")
    wanted = [f"{what} {n}" for n in range(500) for what in ("out", "err", "log", "raw")]
    assert one.messages() == wanted


def test_output_of_subprocesses_and_descriptors_stands_where_it_was_written(container: Make) -> None:
    one = container(
        """
        import logging, os, subprocess, sys
        from samovar import task
        @task
        def f():
            for n in range(40):
                print("before", n)
                subprocess.run(["sh", "-c", f"echo child {n}"])
                logging.info("between %s", n)
                os.write(2, b"descriptor %d\\n" % n)
                print("after", n)
        """
    )
    one.run("f")
    what = ("before", "child", "between", "descriptor", "after")
    assert one.messages() == [f"{word} {n}" for n in range(40) for word in what]


def test_what_a_program_catches_at_the_descriptor_stays_caught(container: Make) -> None:
    one = container(
        """
        import os, sys, tempfile
        from samovar import task
        @task
        def f():
            kept = os.dup(1)
            with tempfile.TemporaryFile() as file:
                os.dup2(file.fileno(), 1)
                print("caught")
                sys.stdout.flush()
                os.dup2(kept, 1)
                file.seek(0)
                text = file.read().decode()
            print("free")
            return text
        """
    )
    finish = one.run("f")
    assert finish["result"] == "caught\n"
    assert one.messages() == ["free"]


def test_an_alarm_that_raises_within_a_print_harms_nothing(container: Make) -> None:
    one = container(
        """
        import signal
        from samovar import task
        class Late(Exception): pass
        def late(number, frame): raise Late
        @task
        def f():
            signal.signal(signal.SIGALRM, late)
            count = 0
            for _ in range(50):
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                try:
                    while True: print("x" * 4000)
                except Late: count += 1
            return count
        """
    )
    finish = one.run("f")
    assert finish["outcome"] == wire.COMPLETED
    assert finish["result"] == 50


LEVELS = """
import logging, logging.config, sys
from samovar import task
{setup}
log = logging.getLogger("shop.cart")
def speak():
    log.debug("fine")
    log.warning("careful %s", 1)
    try: 1 / 0
    except ZeroDivisionError: log.exception("bad")
@task
def f():
    {inside}
    speak()
"""
CONSOLE = """
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"f": {"format": FORMAT}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "f", STREAM}},
    WHERE
})
"""


def console(format: str, where: str, stream: str = "'level': 'DEBUG'") -> str:
    return CONSOLE.replace("FORMAT", repr(format)).replace("STREAM", stream).replace("WHERE", where)


ROOT = "'root': {'handlers': ['console'], 'level': 'DEBUG'}"
OWN = "'loggers': {'shop': {'handlers': ['console'], 'level': 'DEBUG'}}"
TIMED = "%(asctime)s %(name)s: %(message)s"


@pytest.mark.parametrize(
    ("setup", "inside", "text"),
    [
        ("logging.basicConfig(level=logging.DEBUG)", "pass", "{}"),
        ("", "logging.basicConfig(level=logging.DEBUG)", "{}"),
        ("", "logging.basicConfig(level='DEBUG', stream=sys.stdout, force=True)", "{}"),
        ("logging.basicConfig(level=10, format='[%(name)s] %(message)s')", "pass", "[shop.cart] {}"),
        (console("%(message)s", ROOT), "pass", "{}"),
        (console("<%(message)s>", OWN), "pass", "<{}>"),
        (console("%(message)s", ROOT, "'stream': 'ext://sys.stdout'"), "pass", "{}"),
        ("h = logging.StreamHandler(); logging.getLogger().addHandler(h); logging.root.setLevel(1)", "pass", "{}"),
        ("logging.getLogger().setLevel(logging.DEBUG)", "pass", "{}"),
    ],
)
def test_levels_and_names_survive_the_usual_configurations(
    container: Make, setup: str, inside: str, text: str
) -> None:
    one = container(LEVELS.format(setup=setup, inside=inside))
    one.run("f")
    lines = one.sidecar.lines()
    assert [(line["stream"], line["level"], line["logger"]) for line in lines] == [
        ("logging", "debug", "shop.cart"),
        ("logging", "warning", "shop.cart"),
        ("logging", "error", "shop.cart"),
    ]
    opening, _, closing = text.partition("{}")
    assert lines[0]["message"] == f"{opening}fine{closing}"
    assert lines[1]["message"] == f"{opening}careful 1{closing}"
    assert lines[2]["message"].startswith(f"{opening}bad{closing}\nTraceback")


def test_a_format_with_the_time_is_kept(container: Make) -> None:
    one = container(LEVELS.format(setup=console(TIMED, ROOT), inside="pass"))
    one.run("f")
    first = one.sidecar.lines()[0]
    assert first["message"].endswith(" shop.cart: fine")
    assert first["message"][:2] == "20"


def test_a_handler_that_is_not_the_console_does_not_come_through(container: Make, tmp_path: Path) -> None:
    target = tmp_path / "own.log"
    setup = f"logging.basicConfig(level=10, filename={str(target)!r})"
    one = container(LEVELS.format(setup=setup, inside="print('only this')"))
    one.run("f")
    assert one.messages(stream="stdout") == ["only this"]
    assert not any(line["logger"] == "shop.cart" for line in one.sidecar.lines())
    assert "DEBUG:shop.cart:fine" in target.read_text()


def test_of_a_flood_the_head_and_the_tail_are_kept_and_the_middle_is_counted(container: Make) -> None:
    one = container(
        """
        import logging, sys
        from samovar import task
        @task
        def f():
            for n in range(400_000): sys.stdout.write(f"line {n} " + "." * 60 + "\\n")
            logging.error("the last record")
            print("the last error", file=sys.stderr)
            sys.stdout.write("the end")
        """
    )
    finish = one.run("f")
    messages = one.messages()
    (place,) = [n for n, line in enumerate(one.sidecar.lines()) if line["stream"] == "samovar"]
    head, tail = messages[:place], messages[place + 1 :]
    assert head == [f"line {n} " + "." * 60 for n in range(len(head))]
    assert tail[-3:] == ["the last record", "the last error", "the end"]
    first = 400_000 - (len(tail) - 3)
    assert tail[:-3] == [f"line {n} " + "." * 60 for n in range(first, 400_000)]
    assert f"{first - len(head)} lines" in messages[place]
    missing = sum(len(f"line {n} ") + 61 for n in range(len(head), first))
    assert finish["dropped"] == missing
    assert f"({missing} bytes)" in messages[place]
    cost = sum(len(text) + 64 for text in tail)
    assert 0.9 * TAIL < cost <= TAIL
    assert 0.99 * HEAD < sum(len(text) + 64 for text in head) <= HEAD + 200


def test_of_a_flood_of_records_the_tail_is_kept(container: Make) -> None:
    one = container(
        """
        import logging
        from samovar import task
        @task
        def f():
            log = logging.getLogger("flood")
            for n in range(30000): log.info("%s %s", n, "x" * 1000)
            log.error("the end")
        """
    )
    one.run("f")
    last = one.sidecar.lines()[-1]
    assert (last["message"], last["level"], last["logger"]) == ("the end", "error", "flood")
    assert one.messages()[-2].startswith("29999 ")
