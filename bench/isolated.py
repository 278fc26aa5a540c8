"""Prefect with its Docker worker, which gives each flow run a container as Samovar does, in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import load, starts
from bench.bed import Bed
from bench.figures import Outcome, Series
from bench.peers import PYTHON

_HOME = Path(__file__).parent / ".peers-isolated"
_PROGRAM = Path(__file__).parent / "others" / "prefect_flows.py"
_PACKAGES = ("prefect", "prefect-docker")
#: Of a flow run: one takes seconds.
_SHARE = 20
_NOTES = ["Prefect: a server on SQLite, one worker without a limit, its packages lent to the container"]


def isolated(bed: Bed, count: int) -> list[Outcome]:
    """From a trigger to the first line and to the result, one by one; and how many a second, all at once."""
    few = max(2, count // _SHARE)
    said = _install() or _measure(bed, few)
    if isinstance(said, str):
        return [Outcome("peers: isolated", "Prefect is missing", [], [], notes=[said])]
    cold, warm = starts.cold(bed, few).samovar, starts.warm(bed, count).samovar
    mine = [
        Series(f"samovar, {kind}: {what}", "ms", series.samples)
        for kind, both in (("cold", cold), ("warm", warm))
        for what, series in zip(("first line", "result"), both, strict=True)
    ]
    # its end is its caller's, who asks for the state every 50 ms
    peers = [
        Series(f"Prefect: {what} (over {kind})", "ms", said[name], against=2 * place + number)
        for place, kind in enumerate(("cold", "warm"))
        for number, (what, name) in enumerate((("first line", "start_ms"), ("done", "whole_ms")))
    ]
    together = f"{count} runs at once, and {few} of the peer's"
    rate = Series("Prefect", "/s", said["per_second"])
    return [
        Outcome("peers: isolated starts", "trigger → first line, trigger → result", mine, peers, notes=_NOTES),
        Outcome("peers: isolated rate", together, [load.rate(bed, count)], [rate], better="higher", notes=_NOTES),
    ]


def _install() -> str | None:
    """Why it is not there; None where it is."""
    python = _HOME / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_HOME)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *_PACKAGES]
    if subprocess.run(pip, check=False, capture_output=True).returncode:
        return f"{' and '.join(_PACKAGES)} could not be installed"
    return None


def _measure(bed: Bed, count: int) -> dict[str, list[float]] | str:
    (packages,) = (_HOME / "lib").glob("python3*/site-packages")
    command = [str(_HOME / "bin" / "python"), str(_PROGRAM), bed.dependencies, PYTHON, str(packages), str(count)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found
