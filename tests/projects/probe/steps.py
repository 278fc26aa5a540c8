"""Runs whose progress is counted outside of them, in an append-only ledger on a named mount."""

import os
import time
from pathlib import Path

from samovar import Retry, checkpoint, current_run, task

LEDGER = Path("/ledger")


def note(book: str, line: str) -> None:
    """One line, in one write: appends of that size are not torn."""
    handle = os.open(LEDGER / book, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(handle, (line + "\n").encode())
    os.close(handle)


def wait_for(name: str) -> None:
    while not (LEDGER / name).exists():
        time.sleep(0.02)


def step(book: str, number: int, gate: int) -> int:
    note(book, str(number))
    if number == gate:
        wait_for(f"{book}.go")
    return number * 10


@task(mounts={"ledger": "/ledger"}, warm=False)
def five_steps(book: str, gate: int = 0) -> dict:
    """Five checkpoints; in the middle of step `gate` it waits for the file BOOK.go."""
    values = [checkpoint(f"step-{n}", step, book, n, gate) for n in range(1, 6)]
    return {"values": values, "attempt": current_run().attempt}


@task(mounts={"ledger": "/ledger"})
def count(book: str, number: int) -> int:
    """Notes that it ran, and returns the square."""
    note(book, str(number))
    return number * number


@task(mounts={"ledger": "/ledger"})
def gated(book: str) -> str:
    """Says that it runs, and waits for BOOK.go."""
    note(book, "running")
    wait_for(f"{book}.go")
    return "went"


@task(retry=Retry(max_attempts=3, min_delay="10ms", max_delay="20ms"), mounts={"ledger": "/ledger"})
def fails(book: str, times: int) -> int:
    """Fails its first `times` attempts."""
    note(book, "tried")
    if current_run().attempt <= times:
        raise RuntimeError(f"attempt {current_run().attempt} fails")
    return current_run().attempt


@task
def add(a: int, b: int = 1) -> int:
    print(f"adding {a} and {b}")
    return a + b


@task(memory="96m", cpu=0.5)
async def add_async(a: int, b: int) -> int:
    return a + b


@task
def talks() -> str:
    """Says something in each of the ways a task can."""
    import logging
    import sys

    print("printed")
    print("to stderr", file=sys.stderr)
    logging.getLogger("shop.till").warning("the till is %s", "open")
    run = current_run()
    run.progress(0.5, "half-way")
    run.set_metadata("customer", {"id": 7})
    return f"{run.task} {run.attempt} {run.project}"


@task
def echo(value: str) -> dict:
    """A value there and back, by way of a checkpoint."""
    return {"length": len(value), "value": checkpoint("value", value)}


@task(network="open")
def sees_network() -> list:
    import socket

    return sorted(name for _, name in socket.if_nameindex())


@task(warm=False)
def always_new(number: int) -> int:
    return number
