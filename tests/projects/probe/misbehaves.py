"""Tasks that do what tasks should not."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from samovar import Abort, Retry, RetryAfter, checkpoint, task


@task
def takes(order_id: str, count: int, price: float = 1.0) -> str:
    return f"{order_id} {count} {price}"


@task
def not_serialisable() -> object:
    return {"items": [1, {"handle": open("/dev/null")}]}


@task
def huge() -> str:
    return "x" * (50 * 1024 * 1024)


@task
def not_a_number() -> dict:
    return {"values": [1.0, float("nan")]}


@task
def bad_checkpoint() -> object:
    return checkpoint("thing", object())


@task
def chatty(mebibytes: int) -> int:
    line = "x" * 1023 + "\n"
    for _ in range(mebibytes * 1024):
        sys.stdout.write(line)
    return mebibytes


@task
def invalid_utf8() -> str:
    os.write(1, b"before \xff\xfe after\n")
    return "written"


@task(memory="256m")
def fork_bomb() -> int:
    children = 0
    while True:
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError:
            return children
        children += 1


@task
def full_tmp() -> str:
    with open("/tmp/big", "wb") as handle:
        while True:
            handle.write(b"x" * 1024 * 1024)


@task
def many_files() -> int:
    number = 0
    try:
        while True:
            Path(f"/tmp/{number}").touch()
            number += 1
    except OSError:
        return number


@task(memory="64m", retry=Retry(max_attempts=1))
def eats_memory() -> int:
    hoard = []
    while True:
        hoard.append(bytearray(4 * 1024 * 1024))


@task
def segfaults() -> None:
    ctypes.string_at(0)


@task
def exits(code: int) -> None:
    sys.exit(code)


@task
def exits_hard(code: int) -> None:
    os._exit(code)


@task
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def kills_everything() -> None:
    os.kill(-1, signal.SIGKILL)


@task(timeout="1s")
def too_slow() -> None:
    time.sleep(600)


@task(timeout="1s")
def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    while True:
        time.sleep(1)


@task
def leaves_a_process() -> int:
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid


@task(retry=Retry(max_attempts=5))
def aborts() -> None:
    raise Abort("this order is forged")


@task(retry=Retry(max_attempts=2, min_delay="1h", max_delay="1h"))
def asks_for_later() -> None:
    raise RetryAfter("10ms")


@task
def raises_deep() -> None:
    def inner() -> None:
        raise KeyError("the inner one")

    try:
        inner()
    except KeyError as error:
        raise ValueError("the outer one") from error
