"""DBOS, procrastinate and Celery on the same machine in the same run, in a virtual environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any

from bench import load, starts
from bench.bed import Bed
from bench.figures import Outcome, Series, Target
from bench.postgres import database

_HOME = Path(__file__).parent / ".peers"
_PROGRAMS = Path(__file__).parent / "others"
_PACKAGES = {
    "dbos": ["dbos"],
    "procrastinate": ["procrastinate", "psycopg[binary]"],
    "celery": ["celery"],
}


def peers(bed: Bed, count: int) -> list[Outcome]:
    """A checkpoint against a step of DBOS; runs a second; and from a trigger to the task's first line."""
    notes = ["Samovar's runs are isolated in containers; the peers' jobs run in their workers' processes"]
    versions, missing = _install()
    notes += [f"versions: {', '.join(versions)}"] if versions else []
    notes += [f"missing, since it could not be installed: {name}" for name in missing]
    found = _measure(count, {name for name in _PACKAGES if name not in missing})
    checkpoint = load.checkpoint(bed, count).samovar
    runs = load.rate(bed, count)
    first = starts.warm(bed, count // 4).samovar[:1]
    step, rate, start, targets = [], [], [], []
    for name, document in found.items():
        if isinstance(document, str):
            notes.append(f"{name} is missing: {document}")
            continue
        if "step_ms" in document:
            # each against the checkpoint on the same database
            against = int("PostgreSQL" in name)
            step.append(Series(f"{name}: step", "ms", document["step_ms"], against=against))
            above = checkpoint[against].median / step[-1].median
            targets.append(Target(f"a checkpoint over a step, {name}", above, 1.0, "x"))
        if "start_ms" in document:
            start.append(Series(f"{name}: first line", "ms", document["start_ms"]))
        rate.append(Series(name, "/s", [document["per_second"]]))
    return [
        Outcome("peers: steps", "one durable step, seen from user code", checkpoint, step, targets, notes=[*notes]),
        Outcome("peers: rate", f"{count} trivial runs at once", [runs], rate, better="higher", notes=[*notes]),
        Outcome("peers: starts", "trigger → first line of user code, one by one", first, start, notes=[*notes]),
    ]  # fmt: skip


def jobs(count: int) -> float | str:
    """Jobs of procrastinate a second, ten at once; or why they are missing."""
    _, missing = _install({"procrastinate"})
    if missing:
        return "procrastinate is missing: it could not be installed"
    document = _measure(count, {"procrastinate"})["procrastinate"]
    return document if isinstance(document, str) else float(document["per_second"])


def _install(names: Container[str] = _PACKAGES) -> tuple[list[str], list[str]]:
    """What is installed, with its version; and the names of what could not be."""
    if not _python().exists():
        subprocess.run([sys.executable, "-m", "venv", str(_HOME)], check=True)
    versions, missing = [], []
    for name, packages in _PACKAGES.items():
        if name not in names:
            continue
        pip = [str(_python()), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        if subprocess.run(pip, check=False, capture_output=True).returncode:
            missing.append(name)
            continue
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        version = subprocess.run([str(_python()), "-c", code], check=True, capture_output=True, text=True).stdout
        versions.append(f"{name} {version.strip()}")
    return versions, missing


def _measure(count: int, there: set[str]) -> dict[str, dict[str, Any] | str]:
    found: dict[str, dict[str, Any] | str] = {}
    if "dbos" in there:
        with database() as url:
            found["DBOS on PostgreSQL"] = _run("dbos_steps.py", url, count)
        with tempfile.TemporaryDirectory() as directory:
            found["DBOS on SQLite"] = _run("dbos_steps.py", f"sqlite:///{directory}/dbos.db", count)
    if "procrastinate" in there:
        with database() as url:
            found["procrastinate"] = _run("procrastinate_jobs.py", url.replace("+psycopg", ""), count)
    if "celery" in there:
        with tempfile.TemporaryDirectory() as directory:
            found["Celery, a directory as broker"] = _run("celery_jobs.py", directory, count)
    return found


def _run(program: str, where: str, count: int) -> dict[str, Any] | str:
    """What the program measured, or what it said last where it failed."""
    command = [str(_python()), str(_PROGRAMS / program), where, str(count)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return f"it was at {count} for more than 300 s"
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def _python() -> Path:
    return _HOME / "bin" / "python"
