"""Tasks that trigger others."""

import asyncio
import os
import time

from samovar import InvalidPayload, Item, Queue, RunFailed, checkpoint, current_run, task, wait

NARROW = Queue("narrow", concurrency=1)


@task
def square(n: int) -> int:
    if n < 0:
        raise ValueError(f"{n} is negative")
    return n * n


@task
def asks(n: int) -> dict:
    try:
        return {"result": square.trigger_and_wait(n=n)}
    except RunFailed as error:
        return {"type": error.type, "message": error.message, "status": error.status}


@task
def refused() -> dict:
    try:
        square.trigger_and_wait(n="three")
    except InvalidPayload as error:
        return {"fields": error.fields}
    return {}


@task
def gathers(count: int) -> list:
    results = square.batch_trigger_and_wait([{"n": n - 1} for n in range(count)])
    return [result.result() if result.ok else result.error.type for result in results]


@task
def begins(n: int) -> dict:
    one = square.with_options(tags=["begun"], key="first").trigger(n=n)
    many = square.batch_trigger([Item({"n": n}, tags=["many"]) for n in range(3)])
    checkpoint("between", 1)
    return {"first": one.id, "result": one.result(), "rest": [child.result() for child in many]}


@task
async def at_once(n: int) -> list:
    return await asyncio.gather(*(square.trigger_and_wait(n=k) for k in range(n)))


@task(queue=NARROW)
def nested(depth: int) -> list:
    mine = [current_run().id]
    return mine + (nested.trigger_and_wait(depth=depth - 1) if depth else [])


@task
def endless() -> None:
    endless.trigger_and_wait()


@task
def parent() -> None:
    waiter.with_options(key="detached", detached=True).trigger(name="detached")
    waiter.with_options(key="begun").trigger(name="begun")
    waiter.batch_trigger_and_wait([{"name": "a"}, {"name": "b"}])


@task
def waiter(name: str) -> object:
    return wait.token(key=name).result()


@task
def large(size: int) -> str:
    return "x" * size


@task
def gathers_large(count: int, size: int) -> list:
    return [len(result.result()) for result in large.batch_trigger_and_wait([{"size": size}] * count)]


@task(mounts={"ledger": "/ledger"})
def counts(book: str, count: int) -> list:
    results = count_one.batch_trigger_and_wait([{"book": book, "n": n} for n in range(count)])
    checkpoint("gathered", note, book, "gathered")
    return [result.result() for result in results]


@task(mounts={"ledger": "/ledger"})
def count_one(book: str, n: int) -> int:
    checkpoint("begin", note, book, str(n))
    while not os.path.exists(f"/ledger/{book}.go"):
        time.sleep(0.02)
    return n * 10


def note(book: str, word: str) -> None:
    with open(f"/ledger/{book}", "a") as file:
        file.write(f"{word}\n")
