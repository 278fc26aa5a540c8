"""The client of a project that floods: `python -m bench.attack NAME`, a process of its own.

In the process that measures, its threads would compete with the measured client for one interpreter, and what that
costs is none of Samovar's. A client of another project's is on another machine: this one takes what the processors
have left. URL and KEY come in the environment. It says `attacking` when the flood is on; when its standard input
ends it stops, and when nothing of its project is left, it ends: what comes after it is alone again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
from samovar import Client

ATTACKS = ("checkpoints", "logs", "runs")
#: What the attacks consist of: runs that flood by themselves; clients that trigger, and the bytes of each payload.
RUNS = 2
CLIENTS = 4
PAYLOAD = 200_000
_PATIENCE = 120.0
_ATTACKING = "attacking"

TASKS = '''\
"""Each task takes as much as it gets."""

import os
import time

from samovar import checkpoint, task


@task(id="hog-checkpoints", cpu=0.5)
def checkpoints(seconds: float) -> None:
    # no two values are the same: equal ones are kept once
    mine, value, until, number = os.urandom(8).hex(), "x" * 400_000, time.time() + seconds, 0
    while time.time() < until:
        try:
            checkpoint(f"step-{number}", f"{mine}-{number}-{value}")
        except Exception:
            time.sleep(0.01)
        number += 1


@task(id="hog-logs", cpu=0.5)
def logs(seconds: float) -> None:
    until = time.time() + seconds
    while time.time() < until:
        print("x" * 8000)


@task(id="hog-runs", priority=1000)
def runs(padding: str) -> None:
    pass
'''


@contextlib.contextmanager
def attacked(url: str, key: str, name: str) -> Iterator[None]:
    """While the block runs. At its end nothing of the attacker's project is queued or running."""
    environment = {**os.environ, "URL": url, "KEY": key}
    command = [sys.executable, "-m", "bench.attack", name]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline().strip() != _ATTACKING:
            raise RuntimeError(f"the attack {name!r} does not begin")
        try:
            yield
        finally:
            child.stdin.close()
            if child.wait(2 * _PATIENCE):
                raise RuntimeError(f"the attack {name!r} failed")


def main(name: str) -> None:
    os.nice(19)
    ending = threading.Event()
    url, key = os.environ["URL"], os.environ["KEY"]
    with Client(url, key) as client:
        if name == "runs":
            threads = [threading.Thread(target=_trigger, args=(client, ending)) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
        else:
            threads = []
            for _ in range(RUNS):
                _started(client, client.trigger(f"hog-{name}", {"seconds": 600.0}).id)
        print(_ATTACKING, flush=True)
        sys.stdin.read()
        ending.set()
        for thread in threads:
            thread.join()
        _cleared(url, key)


def _trigger(client: Client, ending: threading.Event) -> None:
    while not ending.is_set():
        padding = f"{time.time_ns()}-".ljust(PAYLOAD, "x")
        with contextlib.suppress(Exception):
            client.trigger("hog-runs", {"padding": padding}, concurrency_key=str(time.time_ns()))


def _started(client: Client, run: str) -> None:
    end = time.monotonic() + _PATIENCE
    while client.run(run).data["status"] == "queued":
        if time.monotonic() > end:
            raise RuntimeError(f"the run {run} of the other project does not start")
        time.sleep(0.05)


def _cleared(url: str, key: str) -> None:
    """Cancels all that is left, and returns when that has ended."""
    statuses = ["queued", "running", "waiting", "delayed"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as api:
        end = time.monotonic() + _PATIENCE
        while True:
            body = {"filter": {"status": statuses}, "limit": 100}
            left = api.post("/api/v1/runs/cancel", json=body).raise_for_status().json()["items"]
            if not left:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"{len(left)} runs of the other project do not end")
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
