"""What errors are one error, and that no text of a task makes finding that out slow."""

from __future__ import annotations

import time
import traceback

import pytest

from coordinator.history import fingerprints
from coordinator.wire import ErrorBody


def error(text: str, type: str = "ValueError", message: str = "no", reason: str = "exception") -> ErrorBody:
    return ErrorBody(type=type, message=message, traceback=text, reason=reason)


def frames(*places: tuple[str, int, str]) -> str:
    lines = ["Traceback (most recent call last):"]
    for file, line, function in places:
        lines += [f'  File "{file}", line {line}, in {function}', "    go()"]
    return "\n".join([*lines, "ValueError: no"])


TASK = ("/app/orders/tasks.py", 10, "charge")
LIBRARY = ("/opt/samovar/env/lib/python3.11/site-packages/requests/api.py", 59, "get")


def test_the_line_and_the_message_do_not_count() -> None:
    one = error(frames(TASK), message="order 17 is broken")
    other = error(frames(("/app/orders/tasks.py", 44, "charge")), message="order 18 is broken")
    assert fingerprints.of(one) == fingerprints.of(other)
    assert len(fingerprints.of(one)) == fingerprints.DIGITS


@pytest.mark.parametrize(
    "other",
    [
        error(frames(TASK), type="KeyError"),
        error(frames(("/app/orders/tasks.py", 10, "refund"))),
        error(frames(("/app/orders/other.py", 10, "charge"))),
    ],
)
def test_type_function_and_file_do(other: ErrorBody) -> None:
    assert fingerprints.of(error(frames(TASK))) != fingerprints.of(other)


@pytest.mark.parametrize(
    "below",
    [
        LIBRARY,
        ("/usr/lib/python3.11/json/decoder.py", 355, "raw_decode"),
        ("/usr/lib/python3/dist-packages/numpy/x.py", 1, "f"),
        ("<frozen importlib._bootstrap>", 241, "_call_with_frames_removed"),
        ("/opt/samovar/sdk/samovar/tasks.py", 5, "call"),
    ],
)
def test_the_last_frame_of_the_project_counts(below: tuple[str, int, str]) -> None:
    assert fingerprints.top_frame(frames(TASK, below)) == ("orders/tasks.py", "charge")
    assert fingerprints.top_frame(frames(below)) is None


def test_of_errors_that_led_to_another_the_last_one_counts() -> None:
    cause = frames(("/app/a.py", 1, "inner"))
    between = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    assert fingerprints.top_frame(cause + between + frames(("/app/b.py", 1, "outer"))) == ("b.py", "outer")
    assert fingerprints.top_frame(cause + between + frames(LIBRARY)) == ("a.py", "inner")


def test_what_python_writes_is_read() -> None:
    def raises() -> None:
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

    try:
        raises()
    except ExceptionGroup as caught:
        text = "".join(traceback.format_exception(caught))
    found = fingerprints.top_frame(text)
    assert found is not None
    assert found[0].endswith("test_fingerprints.py")
    assert found[1] == "raises"


def test_members_of_a_group_are_frames_too() -> None:
    text = '  + Exception Group Traceback (most recent call last):\n  |   File "/app/a.py", line 3, in many\n'
    assert fingerprints.top_frame(text) == ("a.py", "many")


def test_what_has_no_frame_is_told_apart_by_reason_and_type() -> None:
    def of(reason: str, message: str, type: str = "OutOfMemory") -> str:
        return fingerprints.of(error("", type, message, reason))

    assert of("out_of_memory", "used 512 MiB") == of("out_of_memory", "used 1 GiB of 1 GiB")
    assert of("out_of_memory", "x") != of("lost", "x")
    assert of("lost", "x", "Lost") != of("lost", "x", "TimedOut")


def test_a_time_out_is_one_wherever_the_task_was() -> None:
    one = error(frames(TASK), "Timeout", reason="timeout")
    assert fingerprints.of(one) == fingerprints.of(
        error(frames(("/app/b.py", 3, "x")), "Timeout", reason="timeout")
    )


def test_without_a_frame_numbers_and_names_in_the_message_do_not_count() -> None:
    def of(message: str) -> str:
        return fingerprints.of(ErrorBody(type="ContainerExited", message=message))

    assert of("exit code 137 of 'c-1'") == of("exit code 1 of 'c-2'")
    assert of("exit code 137") != of("was killed")


def test_the_first_line_that_says_something_is_the_title() -> None:
    assert fingerprints.title(ErrorBody(type="E", message="\n \n it is broken \nin two places")) == "it is broken"
    assert len(fingerprints.title(ErrorBody(type="E", message="x" * 10**6))) == fingerprints.MAX_TITLE
    assert fingerprints.title(ErrorBody(type="E", message="")) == ""


@pytest.mark.parametrize(
    "text",
    [
        '  File "' * 500_000,
        '  File "a", line 1, in ' + " " * 4_000_000,
        "  |" * 1_000_000 + 'File "a", line 1, in f',
        '  File "a", line 1, in f\n' * 200_000,
        "\n" * 4_000_000,
        "/python3" * 500_000,
        ("  File " + '"' + "/python3." * 100 + '", line 1, in f\n') * 4_000,
        "9" * 4_000_000,
        "'" * 4_000_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    for hostile in (error(text), error("", message=text), error("", type=text), error("", message="\n" + text)):
        fingerprints.of(hostile)
        fingerprints.know(hostile)
    assert time.process_time() - began < 1.5
