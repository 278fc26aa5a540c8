"""What the host looks like where attacks could change it: before and after a module of tests it is the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import docker

#: Files and settings that an escape would go for.
FILES = (
    *("/etc/passwd", "/etc/shadow", "/etc/sudoers", "/etc/ld.so.preload", "/etc/crontab", "/etc/hosts"),
    *("/root/.ssh/authorized_keys", "/etc/docker/daemon.json"),
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/net/ipv4/ip_forward"),
    *("/sys/kernel/uevent_helper", "/proc/sys/kernel/hostname", "/proc/modules"),
)
FOLDERS = ("/etc/cron.d", "/etc/systemd/system", "/etc/ld.so.conf.d", "/usr/local/bin", "/dev/shm", "/dev/mqueue")
#: What other tests share in memory comes and goes.
_OTHERS = ("psm_", "sem.", "PostgreSQL", "samovar-", "pym-", "joblib")


def look() -> dict[str, Any]:
    """All of it, to be compared."""
    found: dict[str, Any] = {path: _digest(Path(path)) for path in FILES}
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            found[folder] = sorted(name for name in os.listdir(folder) if not name.startswith(_OTHERS))
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    found["mounts"] = sorted(m for m in mounts if not m.startswith(("/var/lib/docker/", "/run/docker/", "/tmp/")))
    found["users"] = _users()
    with contextlib.closing(docker.APIClient(version="auto")) as engine:
        networks = (network["Name"] for network in engine.networks())
        found["networks"] = sorted(name for name in networks if not name.startswith(("samovar-open", "smvtest")))
        found["privileged"] = [entry["Id"] for entry in engine.containers() if _privileged(engine, entry["Id"])]
    return found


def _privileged(engine: docker.APIClient, container: str) -> bool:
    try:
        return bool(engine.inspect_container(container)["HostConfig"]["Privileged"])
    except docker.errors.NotFound:  # one of another test's, which has ended meanwhile
        return False


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _users() -> list[int]:
    """The processes of containers' users: none is left when the containers are gone."""
    from runner.users import FIRST, LAST

    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                uid = os.stat(f"/proc/{name}").st_uid
                status = Path(f"/proc/{name}/status").read_text()
                orphan = "NSpid" in status and len(status.partition("NSpid:")[2].splitlines()[0].split()) == 1
                if FIRST <= uid <= LAST and orphan:
                    found.append(int(name))
    return found
