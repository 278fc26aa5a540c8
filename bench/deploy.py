"""A project with heavy dependencies until its version is current: with nothing kept, and with one package more."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
from uv import find_uv_bin

from bench.bed import Bed, remove_images
from bench.figures import Outcome, Series, Target, rounds

REQUIREMENTS = ("pandas", "scikit-learn", "httpx", "requests", "pydantic")
#: What is asked for in addition, to install all of them anew with what was fetched before.
ANOTHER = "six"
COLD, WARM = 20.0, 10.0
_SECONDS = 240.0
_TASKS = '''\
"""As a task uses them."""

import httpx
import pandas
import pydantic
import requests
import sklearn.linear_model

from samovar import task


@task
def versions() -> list:
    return [module.__version__ for module in (httpx, pandas, pydantic, requests, sklearn)]
'''


def deploy(bed: Bed, count: int) -> Outcome:
    """`samovar deploy`, against uv and pip that install the same into a virtual environment of this host."""
    cold, warm = Series("samovar deploy, nothing kept", "s"), Series("samovar deploy, one package more", "s")
    peers = {
        (tool, kept): Series(f"{tool} install, {words}", "s", against=int(kept))
        for tool in ("uv pip", "pip")
        for kept, words in ((False, "nothing kept"), (True, "one package more"))
    }
    said: list[str] = []
    for number in rounds(count, _SECONDS, least=1):
        # what was deployed is not there while the peers are measured
        with _project(bed) as project:
            for series in (cold, warm):
                _write(project, series is warm)
                began = time.monotonic()
                bed.samovar.deploy_path(project)
                series.add(time.monotonic() - began)
                said.append(_took(bed, project.name))
        for tool in ("uv pip", "pip"):
            # pip takes as long as all the rest together: once is enough to compare with
            if tool == "pip" and number > 0:
                continue
            with tempfile.TemporaryDirectory(prefix="samovar-bench-") as directory:
                for kept in (False, True):
                    peers[tool, kept].add(_installed(tool, Path(directory), another=kept))
    return Outcome(
        "deploy",
        f"a project with {', '.join(REQUIREMENTS)} until its version is current",
        [cold, warm],
        list(peers.values()),
        [
            Target("median of samovar deploy, nothing kept", cold.median, COLD, "s"),
            Target("median of samovar deploy, one package more", warm.median, WARM, "s"),
        ],
        notes=[
            "the peers leave out byte code, the image and the tasks' index, and run nothing in a container",
            *dict.fromkeys(said[-2:]),
        ],
    )


@contextlib.contextmanager
def _project(bed: Bed) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="samovar-bench-"))
    path = directory / f"bench-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    try:
        yield path
    finally:
        remove_images(bed.docker, path.name)
        shutil.rmtree(directory, ignore_errors=True)


def _write(project: Path, another: bool) -> None:
    (project / "samovar.toml").write_text(f'[project]\nname = "{project.name}"\ntasks = ["tasks"]\n')
    (project / "tasks.py").write_text(_TASKS)
    (project / "requirements.txt").write_text("".join(f"{name}\n" for name in _names(another)))


def _names(another: bool) -> list[str]:
    return [*REQUIREMENTS, ANOTHER] if another else list(REQUIREMENTS)


def _took(bed: Bed, project: str) -> str:
    """The line of the newest deploy's log that says what each step took."""
    credentials = json.loads((bed.samovar.data / "credentials.json").read_text())
    headers = {"Authorization": f"Bearer {credentials['api_key']}"}
    with httpx.Client(base_url=f"{credentials['url']}/api/v1", headers=headers, timeout=60) as client:
        found = client.get("/deployments", params={"project": project}).raise_for_status().json()["items"]
        query: dict[str, str] = {}
        while True:
            page = client.get(f"/deployments/{found[0]['id']}/log", params=query).raise_for_status().json()
            for line in page["items"]:
                if line["message"].startswith("took "):
                    return str(line["message"])
            if page["done"] or not page["next"]:
                return "no step was logged"
            query = {"after": page["next"]}


def _installed(tool: str, directory: Path, *, another: bool) -> float:
    """Seconds until what is asked for is in a new virtual environment; what was fetched stays below `directory`."""
    environment = directory / f"environment-{another}"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = str(environment / "bin/python")
    cache = ["--cache-dir", str(directory / "cache")]
    if tool == "pip":
        command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    else:
        command = [find_uv_bin(), "pip", "install", "-q", "--no-config", "--python", python]
    began = time.monotonic()
    subprocess.run([*command, *cache, *_names(another)], check=True, capture_output=True)
    return time.monotonic() - began
