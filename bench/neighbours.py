"""What one project costs another: its warm starts, checkpoints and triggers alone, and beside a hostile one."""

from __future__ import annotations

import json
import time

from samovar import Client

from bench.attack import ATTACKS, TASKS, attacked
from bench.bed import Bed, beside
from bench.figures import Outcome, Series, Target, rounds
from bench.project import Project

FACTOR = 2.0
_SECONDS = 90.0
#: A figure is taken in so many parts, alone and beside the attack by turns: a machine drifts.
_ROUNDS = 8
_STEPS = 20
_NAMES = ("warm start", "checkpoint", "trigger over HTTP")


def neighbours(bed: Bed, count: int) -> list[Outcome]:
    """Three attacks; each figure is taken by turns alone and beside the attack. Each project has its own key."""
    url = json.loads((bed.samovar.data / "credentials.json").read_text())["url"]
    with beside(bed, TASKS) as hog, Client(url, _key(bed, bed.project)) as victim:
        attacker = _key(bed, hog)
        return [_beside(victim, url, attacker, name, count) for name in ATTACKS]


def _key(bed: Bed, project: Project) -> str:
    """Of this project alone: who sees all of them is the operator, and has one line for everything."""
    made = bed.samovar.cli("keys", "create", project.name, "--role", "admin", "--project", project.name)
    return str(made["key"])


def _beside(victim: Client, url: str, attacker: str, attack: str, count: int) -> Outcome:
    beside = [Series(f"{name} beside {attack}", "ms") for name in _NAMES]
    alone = [Series(f"{name} alone", "ms", against=number) for number, name in enumerate(_NAMES)]
    _measure(victim, alone, 2)
    for series in alone:
        series.samples.clear()
    part = max(1, count // _ROUNDS)
    for _ in rounds(_ROUNDS, _SECONDS):
        _measure(victim, alone, part)
        with attacked(url, attacker, attack):
            _measure(victim, beside, part)
    targets = [
        Target(f"{name}: 99th percentile over that alone", b.percentile(99) / a.percentile(99), FACTOR, "x")
        for name, a, b in zip(_NAMES, alone, beside, strict=True)
    ]
    return Outcome(f"neighbour: {attack}", f"a project beside one that floods {attack}", beside, alone, targets)


def _measure(victim: Client, series: list[Series], count: int) -> None:
    """As many starts and triggers, and four times as many checkpoints."""
    starts, steps, triggers = series
    for _ in range(count):
        began = time.time()
        run = victim.trigger("warm")
        triggers.add(1000 * (time.time() - began))
        found = run.wait(120)
        starts.add(1000 * (float(found.data["result"]) - began))
    for seconds in victim.trigger("steps", {"count": max(_STEPS, 4 * count)}).wait(120).data["result"]:
        steps.add(1000 * seconds)
