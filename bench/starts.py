"""Cold and warm starts: from the trigger to the first line of user code."""

from __future__ import annotations

import itertools
import statistics
import time

from bench.bed import Bed
from bench.figures import Outcome, Series, Target, rounds
from bench.peers import fork_and_answer

COLD_RATIO = 2.0
WARM_MS = 50.0
_SECONDS = 60.0
#: Runs whose parts are looked at.
_LEDGERS = 50


def triggered(bed: Bed, task: str) -> tuple[float, float, str]:
    """Milliseconds from the trigger to the first line and to the known result; and how it was started."""
    began = time.time()
    run = bed.client.trigger(task).wait(120)
    ended = time.time()
    if run.status != "completed":
        raise RuntimeError(f"the run {run.id} of {task} ended as {run.status}: {run.data.get('error')}")
    return 1000 * (float(run.data["result"]) - began), 1000 * (ended - began), str(run.data["timings"]["start"])


def cold(bed: Bed, count: int) -> Outcome:
    """Every run in a new container, against plain containers of the same image that start Python and print."""
    first, whole = Series("samovar: first line", "ms"), Series("samovar: result", "ms")
    cli_first, cli_whole = Series("docker run: first line", "ms"), Series("docker run --rm: whole", "ms")
    api_first, api_whole = Series("docker-py: first line", "ms"), Series("docker-py: whole, removed", "ms")
    for number in rounds(count + 1, _SECONDS):
        mine = triggered(bed, "cold")
        bed.settled()
        by_cli = bed.docker.run_by_cli(bed.image)
        by_api = bed.docker.run_by_api(bed.image)
        if number == 0:
            continue  # the first of each reads files that the others find in memory
        for series, sample in ((first, mine[0]), (whole, mine[1])):
            series.add(sample)
        for series, seconds in zip((cli_first, cli_whole, api_first, api_whole), (*by_cli, *by_api), strict=True):
            series.add(1000 * seconds)
    return Outcome(
        "cold",
        "trigger → first line of user code, in a new container each",
        [first, whole],
        [cli_first, cli_whole, api_first, api_whole],
        [
            Target("first line over first line of docker run", first.median / cli_first.median, COLD_RATIO, "x"),
            Target("first line over the whole docker run --rm", first.median / cli_whole.median, COLD_RATIO, "x"),
        ],
        notes=[ledger(bed, "cold")],
    )


def warm(bed: Bed, count: int) -> Outcome:
    """The same in a container that stands ready, against docker exec, and against a bare fork."""
    first, whole = Series("samovar: first line", "ms"), Series("samovar: result", "ms")
    execute, fork = Series("docker exec: first line", "ms"), Series("fork and pipe: first line", "ms")
    with bed.docker.idle(bed.image) as container:
        triggered(bed, "warm")
        for _ in rounds(count, _SECONDS):
            line, result, start = triggered(bed, "warm")
            if start != "cold":  # a container is replaced after so many runs
                first.add(line)
                whole.add(result)
            execute.add(1000 * bed.docker.execute(container))
            fork.add(1000 * fork_and_answer())
    return Outcome(
        "warm",
        "trigger → first line of user code, in a warm container",
        [first, whole],
        [execute, fork],
        [Target("median to the first line", first.median, WARM_MS, "ms")],
    )


def ledger(bed: Bed, task: str) -> str:
    """Where the time of the latest runs of `task` went, as the dashboard has it: the medians of each part."""
    parts: dict[str, list[float]] = {}
    for run in itertools.islice(bed.client.runs(task=f"{bed.project.name}/{task}", limit=_LEDGERS), _LEDGERS):
        ledger = bed.client.transport.get(f"/runs/{run.id}/trace", {})["ledger"]
        for part, took in ledger.items():
            parts.setdefault(part.removesuffix("_ms"), []).append(float(took))
    found = {part: statistics.median(took) for part, took in parts.items()}
    return "of a run, medians: " + ", ".join(f"{part} {took:.1f} ms" for part, took in found.items() if took > 0.05)
