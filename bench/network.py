"""What the way through the sidecar costs: a task's bytes and connections, beside the same client's on the bridge.

Both reach one server, in a container on that bridge. Nothing is sent anywhere else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker

from bench.bed import Bed, bed
from bench.figures import Outcome, Series, Target, rounds
from bench.peers import PYTHON
from bench.project import CLIENT

#: Bytes a second of the bridge over those by the sidecar; the time of a connection and of a warm start, against it.
SHARE, CONNECT, WARM = 1 / 0.6, 3.0, 1.10
NAME, PORT = "server.internal", 9000
_SIZE = 512 * 1024**2
_PARALLEL = 50
_SECONDS = 120.0
_LABELS = {"samovar": "1", "samovar.bench": "network"}
#: Answers eight digits with as many bytes; of each connection in a thread.
_SERVER = f"""
import socket, threading
BLOCK = bytes(1 << 20)
def serve(peer):
    with peer:
        while asked := peer.recv(12):
            left = int(asked)
            while left > 0:
                left -= peer.send(BLOCK[:left])
server = socket.create_server(("", {PORT}), backlog=512)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def network(count: int) -> list[Outcome]:
    """Downloads over one connection and over many, connections one after another, and warm starts."""
    engine = docker.APIClient(version="auto")
    with contextlib.closing(engine), tempfile.TemporaryDirectory(prefix="smv-bench-") as directory:
        with _server(engine) as address:
            hosts = Path(directory) / "hosts"
            hosts.write_text(f"{address} {NAME}\n")
            private = f'private = ["{NAME}:{PORT}"]'
            with bed(network=private, SAMOVAR_SIDECAR_HOSTS=str(hosts)) as made:
                return [*_reaching(made, engine, address, count), _starting(made, count)]


def _reaching(bed: Bed, engine: docker.APIClient, address: str, count: int) -> list[Outcome]:
    names = ("one connection", f"{_PARALLEL} connections", "a connection")
    units = ("MB/s", "MB/s", "ms")
    mine = [Series(f"{name}, by the sidecar", unit) for name, unit in zip(names, units, strict=True)]
    bridge = [Series(f"{name}, on the bridge", unit) for name, unit in zip(names, units, strict=True)]

    def task(**payload: Any) -> dict[str, Any]:
        run = bed.client.trigger("fetch", {"host": NAME, "port": PORT, **payload}).wait(120).data
        if run["status"] != "completed":
            raise RuntimeError(f"the run ended as {run['status']}: {run['error']}")
        return dict(run["result"])

    def peer(**payload: Any) -> dict[str, Any]:
        return _on_the_bridge(engine, bed.image, {"host": address, "port": PORT, **payload})

    for number in rounds(count + 1, _SECONDS):
        for client, series in ((task, mine), (peer, bridge)):
            alone = client(connections=1, size=_SIZE, connects=50)
            many = client(connections=_PARALLEL, size=_SIZE // _PARALLEL, connects=0)
            if number:
                series[0].add(alone["bytes"] / alone["seconds"] / 1e6)
                series[1].add(many["bytes"] / many["seconds"] / 1e6)
                for taken in alone["connects"]:
                    series[2].add(1000 * taken)
    what = f"a task's download of {_SIZE >> 20} MiB, through the sidecar, from a server on Docker's bridge"
    return [
        Outcome(
            "network",
            what,
            mine[:2],
            [bridge[0], Series(bridge[1].name, bridge[1].unit, bridge[1].samples, 1)],
            [
                Target(f"the bridge over the sidecar, {name}", bridge[n].median / mine[n].median, SHARE, "x")
                for n, name in enumerate(names[:2])
            ],
            "higher",
        ),
        Outcome(
            "connect",
            "from connect to the first byte of an answer",
            [mine[2]],
            [bridge[2]],
            [Target("the sidecar over the bridge", mine[2].median / bridge[2].median, CONNECT, "x")],
        ),
    ]


def _starting(bed: Bed, count: int) -> Outcome:
    """Warm starts of two tasks by turns."""
    public, none = Series('network="public"', "ms"), Series('network="none"', "ms")
    for number in rounds(10 * count + 3, _SECONDS):
        for name, series in (("warm", public), ("warm-none", none)):
            began = time.time()
            run = bed.client.trigger(name, {}).wait(60).data
            if number >= 3 and run["timings"]["start"] != "cold":
                series.add(1000 * (float(run["result"]) - began))
    return Outcome(
        "network-warm",
        "trigger → first line of user code in a warm container",
        [public],
        [none],
        [Target("with a network over without", public.median / none.median, WARM, "x")],
    )


@contextlib.contextmanager
def _server(engine: docker.APIClient) -> Iterator[str]:
    """The address of the server, in a container on Docker's bridge."""
    told = subprocess.run(
        [sys.executable, "-m", "images", "base", "--json"], check=True, capture_output=True, text=True
    ).stdout
    made = engine.create_container(
        json.loads(told)["image"], ["-u", "-c", _SERVER], entrypoint=["python3"], labels=_LABELS
    )["Id"]
    try:
        engine.start(made)
        next(line for line in engine.logs(made, stream=True, follow=True) if b"ready" in line)
        yield str(engine.inspect_container(made)["NetworkSettings"]["IPAddress"])
    finally:
        engine.remove_container(made, force=True, v=True)


def _on_the_bridge(engine: docker.APIClient, image: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The same client in a plain container of the same processors."""
    program = f"import json\n{CLIENT}\nprint(json.dumps(fetch_all(**{payload!r})))"
    host = engine.create_host_config(cpu_period=100_000, cpu_quota=100_000)
    made = engine.create_container(
        image, ["-I", "-c", program], entrypoint=[PYTHON], labels=_LABELS, host_config=host
    )["Id"]
    try:
        engine.start(made)
        if engine.wait(made)["StatusCode"]:
            raise RuntimeError(engine.logs(made).decode("utf-8", "replace"))
        return dict(json.loads(engine.logs(made, stderr=False)))
    finally:
        engine.remove_container(made, force=True, v=True)
