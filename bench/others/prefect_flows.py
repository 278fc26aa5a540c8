"""Prefect with its Docker worker: `python prefect_flows.py IMAGE PYTHON PACKAGES COUNT` → JSON.

Its server on SQLite, one worker, and a container of IMAGE for each flow run, whose PYTHON has the PACKAGES (a
directory) lent to it. The containers are on the host's network: the server listens on loopback.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

IMAGE, PYTHON, PACKAGES, COUNT = *sys.argv[1:4], int(sys.argv[4])
_READY = 180.0
_FLOW = """\
import os
import time

from prefect import flow


@flow
def trivial(number: int) -> int:
    at = time.time()
    with open(os.path.join(os.environ["STAMPS"], str(number)), "w") as file:
        file.write(repr(at))
    return number + 1
"""


def main() -> None:
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samovar-bench-")))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}/api"
        # read when prefect is imported
        os.environ |= {
            "PREFECT_HOME": str(home / "home"),
            "PREFECT_API_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "DO_NOT_TRACK": "1",
        }
        prefect = (sys.executable, "-m", "prefect")
        stack.enter_context(_running(*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)))
        _until_ready(f"{url}/health")
        _say(*prefect, "work-pool", "create", "bench", "--type", "docker")
        stack.enter_context(_running(*prefect, "worker", "start", "--pool", "bench", "--type", "docker"))
        print(json.dumps(_measure(home, url)))


def _measure(home: Path, url: str) -> dict[str, object]:
    from prefect import flow
    from prefect.deployments import run_deployment

    flows, stamps = home / "flows", home / "stamps"
    for directory in (flows, stamps):
        directory.mkdir()
        directory.chmod(0o777)
    home.chmod(0o755)
    (flows / "flows.py").write_text(_FLOW)
    with contextlib.redirect_stdout(sys.stderr):
        flow.from_source(source=str(flows), entrypoint="flows.py:trivial").deploy(
            "bench",
            work_pool_name="bench",
            image=IMAGE,
            build=False,
            push=False,
            print_next_steps=False,
            job_variables={
                "network_mode": "host",
                "image_pull_policy": "Never",
                "auto_remove": True,
                "command": f"{PYTHON} -m prefect flow-run execute",
                "volumes": [f"{PACKAGES}:/opt/packages:ro", f"{flows}:{flows}:ro", f"{stamps}:/stamps"],
                "env": {"PYTHONPATH": "/opt/packages", "STAMPS": "/stamps", "PREFECT_API_URL": url},
            },
        )

    def run(number: int, timeout: float) -> object:
        return run_deployment("trivial/bench", parameters={"number": number}, timeout=timeout, poll_interval=0.05)

    def stamp(number: int) -> float | None:
        with contextlib.suppress(OSError, ValueError):
            return float((stamps / str(number)).read_text())
        return None

    start: list[float] = []
    whole: list[float] = []
    for number in range(COUNT + 1):
        began = time.time()
        run(number, 300)
        ended, first = time.time(), stamp(number)
        if first is None:
            raise RuntimeError(f"the flow run {number} did not write when it began")
        if number:  # the first one reads files that the others find in memory
            start.append(1000 * (first - began))
            whole.append(1000 * (ended - began))
    began = time.time()
    together = range(1000, 1000 + COUNT)
    for number in together:
        run(number, 0)
    until = began + 60 * COUNT
    while not all(found := [stamp(number) for number in together]):
        if time.time() > until:
            raise RuntimeError("the flow runs did not begin")
        time.sleep(0.05)
    last = max(at for at in found if at is not None)
    return {"start_ms": start, "whole_ms": whole, "per_second": [COUNT / (last - began)]}


@contextlib.contextmanager
def _running(*command: str):
    """A process for as long as the block runs, and all that it has started."""
    child = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True)
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _say(*command: str) -> None:
    subprocess.run(command, stdout=sys.stderr, check=True)


def _until_ready(address: str) -> None:
    until = time.monotonic() + _READY
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


main()
