"""Tasks that wait."""

import asyncio
import os

from samovar import WaitTimeout, checkpoint, current_run, task, wait


def note(book: str, word: str) -> str:
    with open(f"/ledger/{book}", "a") as file:
        file.write(f"{word}\n")
    return word


@task(mounts={"ledger": "/ledger"})
def approve(book: str, within: str = "7d") -> dict:
    token = wait.token(timeout=within, key="approval")
    checkpoint("ask", note, book, token.url)
    try:
        answer = token.result()
    except WaitTimeout as late:
        return {"late": str(late)}
    checkpoint("act", note, book, "acted")
    return {"answer": answer, "attempt": current_run().attempt, "same": token.url}


@task(mounts={"ledger": "/ledger"})
def sleeps(book: str, seconds: float) -> int:
    checkpoint("before", note, book, "before")
    wait.sleep(seconds)
    checkpoint("after", note, book, "after")
    return current_run().attempt


@task
def paid(order: int, timeout: str | None = None) -> object:
    return wait.event("order.paid", where={"order": order}, timeout=timeout)


@task
async def both(order: int) -> list:
    async def nap() -> str:
        await wait.sleep("6s")
        return "rested"

    return await asyncio.gather(wait.event("order.paid", where={"order": order}), nap())


@task
def waits(token: str = "t") -> object:
    return wait.token(key=token).result()


@task(id="who-am-i")
def who_am_i() -> int:
    return os.getpid()
