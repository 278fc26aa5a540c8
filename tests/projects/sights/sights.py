"""Tasks for the dashboard's tests: what they say does harm wherever text is taken for markup."""

import logging
import time

from samovar import Cron, Webhook, checkpoint, current_run, task, wait

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\x1b[31mred\x1b[0m\x00\u202e</pre>"
log = logging.getLogger(HOSTILE)


@task(memory="128m", webhook=Webhook("sights", secret=None))
def greet(name: str = "nobody", times: int = 1) -> dict:
    """Greets <b>somebody</b>."""
    for number in range(times):
        print("hello", name, number)
    checkpoint("asked", lambda: {"name": name})
    checkpoint("answered", lambda: "yes")
    return {"greeting": f"hello {name}"}


@task(memory="128m", schedule=Cron("0 3 * * *"))
def hostile() -> None:
    current_run().progress(0.5, HOSTILE)
    log.error(HOSTILE)
    print(HOSTILE)
    print("w" * 1_000_000)
    checkpoint(HOSTILE.replace("\x00", ""), lambda: {HOSTILE: [HOSTILE]})
    raise RuntimeError(HOSTILE)


@task(memory="128m")
def picky(name: str) -> str:
    """Fails unless it is asked nicely, after its checkpoint."""
    checkpoint("prepared", lambda: "with care")
    if name != "please":
        raise ValueError(f"not {name!r}")
    return "done"


@task(memory="128m")
def steady(seconds: float = 600.0) -> None:
    for number in range(int(seconds * 4)):
        print("still here", number)
        time.sleep(0.25)


@task(memory="64m")
def greedy() -> None:
    checkpoint("first", lambda: 1)
    held = []
    while True:
        held.append(bytearray(10_000_000))


@task(memory="128m")
def asks() -> str:
    return str(wait.token(timeout="1h", key="approval").result())
