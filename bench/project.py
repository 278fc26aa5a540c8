"""The project that is measured: trivial tasks, so that what is measured is Samovar."""

from __future__ import annotations

import uuid
from pathlib import Path

#: A client of bench.network's server, in a task and out of one: bytes and seconds, and seconds of each connection.
CLIENT = """\
import socket, threading, time

def fetch_all(host, port, connections, size, connects):
    took = []
    for _ in range(connects):
        began = time.perf_counter()
        with socket.create_connection((host, port)) as peer:
            peer.sendall(b"%012d" % 1)
            assert peer.recv(1)
        took.append(time.perf_counter() - began)
    counts = [0] * connections

    def fetch(number):
        buffer = bytearray(max(1 << 16, (1 << 20) // connections))
        with socket.create_connection((host, port)) as peer:
            peer.sendall(b"%012d" % size)
            while counts[number] < size:
                count = peer.recv_into(buffer)
                assert count
                counts[number] += count

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return dict(bytes=sum(counts), seconds=seconds, connects=took)
"""

TASKS = '''\
"""Each task does next to nothing."""

import os
import resource
import time

from samovar import File, artifact, checkpoint, task, wait

REVISION = {revision}

{client}

@task(id="cold", warm=False)
def cold() -> float:
    return time.time()


@task(id="warm")
def warm() -> float:
    return time.time()


@task(id="warm-none", network="none")
def warm_none() -> float:
    return time.time()


@task(id="bare")
def bare(count: int, pause: float) -> dict:
    """Forks that do nothing: what there is of that, whoever forks; seconds each of processor time and to a byte."""
    first, whole = [], []
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    for _ in range(count):
        time.sleep(pause)
        reading, writing = os.pipe()
        began = time.time()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.write(writing, repr(time.time()).encode())
            os._exit(0)
        first.append(float(os.read(reading, 64)) - began)
        os.waitpid(pid, 0)
        whole.append(time.time() - began)
        os.close(reading)
        os.close(writing)
    now = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(used, now))
    return dict(cpu=cpu / count, first=sorted(first)[count // 2], whole=sorted(whole)[count // 2])


@task(id="fetch", memory="256m", network=["server.internal:9000"])
def fetch(host: str, port: int, connections: int, size: int, connects: int) -> dict:
    return fetch_all(host, port, connections, size, connects)


@task(id="carry", memory="1600m", scratch="1200m")
def carry(data: File) -> float:
    began = time.perf_counter()
    artifact("copy.bin", data.path)
    return time.perf_counter() - began


@task(id="sleeps")
def sleeps(seconds: float) -> None:
    time.sleep(seconds)


@task(id="trivial")
def trivial(number: int) -> int:
    return number + 1


@task(id="waits")
def waits() -> object:
    return wait.token().result()


@task(id="steps")
def steps(count: int) -> list:
    took = []
    for number in range(count):
        began = time.perf_counter()
        checkpoint(f"step-{{number}}", number)
        took.append(time.perf_counter() - began)
    return took
'''


class Project:
    """A project directory of its own name, which can be given other code."""

    def __init__(self, directory: Path) -> None:
        self.name = f"bench-{uuid.uuid4().hex[:8]}"
        self.path = directory / self.name
        self.path.mkdir()
        (self.path / "samovar.toml").write_text(
            f'[project]\nname = "{self.name}"\ntasks = ["tasks"]\n\n[defaults]\nmemory = "64m"\ntimeout = "1m"\n'
        )
        self._revision = 0
        self.change()

    def change(self) -> None:
        """Other code, same dependencies."""
        self._revision += 1
        (self.path / "tasks.py").write_text(TASKS.format(revision=self._revision, client=CLIENT))
