"""`samovar doctor`: what is in the way on this machine, each with what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import typer

from samovar.cli import hardening
from samovar.cli.api import DEFAULT_DATA, connected, find_credentials
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.hardening import Check
from samovar.cli.server import PARTS, docker_get, docker_host, require_server
from samovar.values.units import format_memory

_GIB = 1024**3
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(cli: Cli) -> None:
    """Check this machine: Docker and its limits, the data directory, the coordinator, the runners."""
    checks = [*_python(), *_docker(), *_data(cli), *_coordinator(cli)]
    failed = [check for check in checks if check.status == "fail"]
    if cli.as_json:
        cli.output.document({"items": [asdict(check) for check in checks], "next": None})
    else:
        for check in checks:
            cli.output.line(f"{check.status:<5} {check.name}: {check.message}", _STYLES[check.status])
            if check.remedy:
                cli.output.line(f"      → {check.remedy}")
    if failed:
        raise typer.Exit(1)


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        require_server()
        yield Check("python", "ok", f"{version}; the server parts ({', '.join(PARTS)}) are installed")
    except CliError as error:
        yield Check(
            "python", "warn", f"{version}; {error.message}", "only needed to run the server on this machine"
        )


def _docker() -> Iterator[Check]:
    try:
        version, info = docker_get("/version"), docker_get("/info")
    except CliError as error:
        status: Literal["warn", "fail"] = "warn" if error.code == "docker_unchecked" else "fail"
        yield Check("docker", status, error.message, "install Docker, start it, or set DOCKER_HOST")
        return
    number = str(version.get("Version", "?"))
    major = int(number.split(".")[0]) if number.split(".")[0].isdigit() else 0
    if major >= 20:
        yield Check("docker", "ok", f"Docker {number} at {docker_host()}, storage driver {info.get('Driver')}")
    else:
        yield Check("docker", "fail", f"Docker {number} is too old", "install Docker 20.10 or later")
    yield from hardening.components(version)
    yield from hardening.engine(info)
    yield _limit(info, "MemoryLimit", "memory limits", "the kernel's memory cgroup is switched off")
    yield _limit(info, "SwapLimit", "swap accounting", "start the kernel with swapaccount=1")
    yield _limit(info, "PidsLimit", "process limits", "the kernel's pids cgroup is switched off")
    security = " ".join(info.get("SecurityOptions") or [])
    if "seccomp" in security:
        yield Check("seccomp", "ok", "system calls of containers are filtered")
    else:
        yield Check("seccomp", "fail", "no filter of system calls", "use a kernel and a Docker with seccomp")
    total = int(info.get("MemTotal") or 0)
    enough = total >= 2 * _GIB
    yield Check(
        "memory",
        "ok" if enough else "warn",
        f"{format_memory(total)}, {info.get('NCPU')} processors",
        "" if enough else "builds may take 2 GiB; set less, or use a larger machine",
    )
    yield _base_image()


def _limit(info: dict[str, Any], key: str, name: str, remedy: str) -> Check:
    if info.get(key):
        return Check(name, "ok", "enforced")
    status: Literal["warn", "fail"] = "fail" if key == "MemoryLimit" else "warn"
    return Check(name, status, "not enforced by this kernel", remedy)


def _base_image() -> Check:
    try:
        found = docker_get("/images/json")
    except CliError as error:
        return Check("base image", "warn", error.message)
    tags = [tag for image in found for tag in image.get("RepoTags") or []]
    bases = [
        tag for tag in tags if tag.startswith("samovar/base:") or (tag.startswith("python:") and "slim" in tag)
    ]
    if bases:
        return Check("base image", "ok", ", ".join(sorted(bases)))
    return Check(
        "base image",
        "warn",
        "not there yet; the first deploy fetches or makes it, which takes a minute",
        "samovar images base does it now",
    )


def _data(cli: Cli) -> Iterator[Check]:
    data = (cli.common.data or Path(os.environ.get("SAMOVAR_DATA") or DEFAULT_DATA)).expanduser()
    there = data
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Check("data directory", "fail", f"{data}: {error.strerror or error}", "give another with --data")
        return
    yield Check("data directory", "ok", f"{data}{'' if data.exists() else ' (not there yet)'}")
    free = shutil.disk_usage(there).free
    enough = free >= 5 * _GIB
    yield Check(
        "disk",
        "ok" if enough else "warn",
        f"{format_memory(free)} free at {there}",
        "" if enough else "images and package caches want some 5 GiB",
    )


def _coordinator(cli: Cli) -> Iterator[Check]:
    remedy = "start it with `samovar up`, or set SAMOVAR_URL and SAMOVAR_API_KEY"
    try:
        credentials = find_credentials(cli.common.url, cli.common.api_key, cli.common.data)
    except CliError as error:
        yield Check("coordinator", "warn", error.message, remedy)
        return
    with connected(credentials) as api:
        if not api.ready():
            yield Check("coordinator", "fail", f"nothing answers at {credentials.url}", remedy)
            return
        if (problem := api.readiness()) is not None:
            yield Check("coordinator", "fail", problem, "make room on its disk, or see its log")
        try:
            runners = list(api.get("/pool")["items"])
        except CliError as error:
            yield Check("coordinator", "fail", error.message, f"the key comes from {credentials.source}")
            return
        yield Check("coordinator", "ok", f"{credentials.url} (from {credentials.source})")
        if runners:
            yield Check("runners", "ok", f"{len(runners)} alive")
        else:
            yield Check("runners", "fail", "none is alive, so no run starts", "see the log of the runner")
        yield from _webhooks(list(api.items("/webhooks")))


def _webhooks(found: list[dict[str, Any]]) -> Iterator[Check]:
    for webhook in found:
        name = f"{webhook['project']}/{webhook['path']}"
        if not webhook["signed"]:
            yield Check(
                "webhook",
                "warn",
                f"{name} is unsigned: whoever knows its URL can make runs",
                "give it a secret, if its sender can sign",
            )
        elif not webhook["secret_set"]:
            remedy = f"samovar secrets set {webhook['secret']} --project {webhook['project']}"
            yield Check("webhook", "warn", f"{name} refuses everything: its secret is not set", remedy)
