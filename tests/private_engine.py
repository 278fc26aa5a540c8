"""A Docker Engine of a test's own, with gVisor: the machine's is shared, and is not reconfigured.

It lives in a network namespace of its own: without one, `--bridge none` takes the machine's bridge away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import requests

from tests.waiting import eventually

#: runsc as it is run where it may not change cgroups, and there is no KVM.
RUNSC_FLAGS = ("--network=none", "--ignore-cgroups", "--platform=ptrace")
NEEDED = ("runsc", "dockerd", "unshare", "ip")


def lacking() -> str | None:
    """What this machine has not that a private engine needs, in words; None: nothing."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)} (.ci/packages installs what is of Debian)"
    if os.geteuid() != 0:
        return "needs root, for a Docker Engine of its own"
    return None


def host_uds() -> str:
    """The flag by which runsc lets containers connect to unix sockets of the host: it has changed its name."""
    told = subprocess.run(["runsc", "flags"], capture_output=True, text=True, check=False)
    return "--host-uds=open" if "-host-uds" in told.stdout + told.stderr else "--fsgofer-host-uds"


@contextlib.contextmanager
def private_engine(*images: str, runtimes: bool = True) -> Iterator[str]:
    """Its DOCKER_HOST; `images` of the machine's engine are in it. `runtimes`: whether it knows runsc."""
    directory = Path(tempfile.mkdtemp(prefix="smv-engine-"))
    # (a directory's own may end with an underscore, which containerd refuses)
    name = f"smv-engine-{uuid.uuid4().hex[:8]}"
    socket = directory / "docker.sock"
    configuration = {
        "runtimes": {"runsc": {"path": shutil.which("runsc"), "runtimeArgs": [*RUNSC_FLAGS, host_uds()]}}
    }
    (directory / "daemon.json").write_text(json.dumps(configuration if runtimes else {}))
    command = [
        "dockerd",
        "--config-file", str(directory / "daemon.json"),
        "--data-root", str(directory / "data"),
        "--exec-root", str(directory / "exec"),
        "--pidfile", str(directory / "pid"),
        "-H", f"unix://{socket}",
        "--containerd-namespace", name,
        "--containerd-plugins-namespace", f"{name}-plugins",
        "--storage-driver", "overlay2",
        "--bridge", "none",
        "--iptables=false",
    ]  # fmt: skip
    log = (directory / "log").open("wb")
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        with contextlib.closing(docker.APIClient(f"unix://{socket}", version="1.41")) as engine:

            def answers() -> bool:
                assert process.poll() is None, (directory / "log").read_text()[-2000:]
                try:
                    return bool(engine.ping())
                except (docker.errors.DockerException, requests.RequestException):
                    return False

            eventually(answers, "the private engine to answer", 60)
            for image in images:
                _copy(image, f"unix://{socket}")
            yield f"unix://{socket}"
            for container in engine.containers(all=True):
                engine.remove_container(container["Id"], force=True, v=True)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
        log.close()
        _unmount(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _copy(image: str, host: str) -> None:
    saving = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    loaded = subprocess.run(["docker", "-H", host, "load"], stdin=saving.stdout, capture_output=True, check=False)
    assert saving.wait() == loaded.returncode == 0, loaded.stderr


def _unmount(directory: Path) -> None:
    """What an engine that was killed has left mounted."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((m for m in mounts if m.startswith(f"{directory}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)
