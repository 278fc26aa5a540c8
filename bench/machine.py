"""The machine that figures come from: its shape, not its name."""

from __future__ import annotations

import os
import platform
from typing import Any

import docker


def facts(engine: docker.APIClient) -> dict[str, Any]:
    """cpus, memory, kernel, engine, runtime, storage driver, cgroups, Python, and how busy it was."""
    info = engine.info()
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "engine": info["ServerVersion"],
        "runtime": info["DefaultRuntime"],
        "storage_driver": info["Driver"],
        "cgroup": info.get("CgroupVersion", "1"),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }
