"""`python -m bench [NAME...]`: the figures, each beside a peer's of the same run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import docker
from rich.console import Console

from bench import (
    claims,
    crowds,
    defaults,
    deploy,
    files,
    freeze,
    heavy,
    history,
    idle,
    inside,
    isolated,
    load,
    machine,
    neighbours,
    network,
    pace,
    pages,
    pool_replay,
    redeploy,
    report,
    rivals,
    sampling,
    screen,
    starts,
    sustained,
    triggers,
    viewers,
    waiting,
)
from bench.bed import Bed, bed
from bench.figures import Outcome
from bench.seeding import Sizes


@dataclass(frozen=True)
class Benchmark:
    """`count` samples for figures to publish, `quick` to see whether it works."""

    run: Callable[[Bed, int], Outcome | list[Outcome]]
    count: int
    quick: int
    #: Whether it is measured where no names are given.
    usual: bool = True


@dataclass(frozen=True)
class Apart(Benchmark):
    """One that needs no containers: it starts what it measures by itself."""

    run: Callable[[int], Outcome | list[Outcome]]  # type: ignore[assignment]


BENCHMARKS = {
    "cold": Benchmark(starts.cold, 20, 4),
    "warm": Benchmark(starts.warm, 100, 15),
    "inside": Benchmark(inside.inside, 40, 4),
    "defaults": Benchmark(defaults.defaults, 200, 30),
    "redeploy": Benchmark(redeploy.redeploy, 5, 2),
    "deploy": Benchmark(deploy.deploy, 3, 1, usual=False),
    "idle": Benchmark(idle.idle, 3, 1),
    "freeze": Benchmark(freeze.freeze, 40, 8),
    "waiting": Benchmark(waiting.waiting, 1000, 50),
    "throughput": Benchmark(load.throughput, 200, 40),
    "checkpoint": Benchmark(load.checkpoint, 200, 40),
    "neighbours": Benchmark(neighbours.neighbours, 600, 64),
    "files": Benchmark(files.files, 3, 1),
    "network": Apart(network.network, 8, 2),
    "trigger": Apart(triggers.trigger, 2000, 40),
    "claims": Apart(claims.claims, 200, 10),
    "pages": Apart(pages.pages, 50, 5, usual=False),
    "history": Benchmark(history.history, 1000, 60, usual=False),
    "sampling": Benchmark(sampling.sampling, 3, 1, usual=False),
    "screen": Benchmark(screen.screen, 60, 8, usual=False),
    "viewers": Benchmark(viewers.viewers, 30, 3, usual=False),
    "peers": Benchmark(rivals.peers, 200, 40, usual=False),
    "pace": Benchmark(pace.pace, 400, 40, usual=False),
    "sustained": Benchmark(sustained.sustained, 3000, 100, usual=False),
    "age": Benchmark(sustained.age, 100_000, 200, usual=False),
    "burst": Benchmark(crowds.burst, 12, 1, usual=False),
    "flood": Benchmark(crowds.flood, 5000, 125, usual=False),
    "fifty": Benchmark(idle.fifty, 50, 5, usual=False),
    "heavy": Benchmark(heavy.heavy, 100, 8, usual=False),
    "replay": Apart(pool_replay.outcomes, 80, 10, usual=False),
    "isolated": Benchmark(isolated.isolated, 200, 40, usual=False),
}


#: What is measured by one word: `speed` is all that a start and a run cost, `age` last and longest; `sight` what it
#: costs to see them.
GROUPS = {
    "speed": [
        *("warm", "pace", "inside", "sustained", "burst", "idle", "fifty", "heavy", "flood", "checkpoint"),
        *("peers", "isolated", "replay", "age"),
    ],
    "sight": ["pages", "screen", "viewers", "history", "sampling"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 where `--check` is given and a target is missed, 2 for a wrong argument."""
    options = _parser().parse_args(arguments)
    named = [one for name in options.names for one in GROUPS.get(name, [name])]
    names = list(dict.fromkeys(named)) or [name for name in BENCHMARKS if BENCHMARKS[name].usual]
    # where it is no terminal, wide enough for a row
    console = Console(stderr=options.json, width=None if sys.stderr.isatty() else 110)
    began = time.monotonic()
    outcomes = []
    with contextlib.ExitStack() as stack:
        made: Bed | None = None
        with contextlib.closing(docker.APIClient(version="auto")) as engine:
            facts = machine.facts(engine)
        report.show_machine(console, facts)
        for name in names:
            benchmark = BENCHMARKS[name]
            count = benchmark.quick if options.quick else benchmark.count
            with console.status(f"measuring {name}"):
                if name == "pages":
                    found: Outcome | list[Outcome] = pages.pages(count, _sizes(options))
                elif isinstance(benchmark, Apart):
                    found = benchmark.run(count)
                else:
                    made = made or stack.enter_context(bed())
                    found = benchmark.run(made, count)
            for outcome in found if isinstance(found, list) else [found]:
                outcome.notes.append(f"load average after it: {os.getloadavg()[0]:.1f}")
                report.show(console, outcome)
                outcomes.append(outcome)
    seconds = round(time.monotonic() - began, 1)
    if options.json:
        document = {
            "machine": facts,
            "quick": options.quick,
            "seconds": seconds,
            "benchmarks": [outcome.document() for outcome in outcomes],
        }
        print(json.dumps(document, indent=2))
    return exit_code(outcomes, check=options.check)


def exit_code(outcomes: Sequence[Outcome], *, check: bool) -> int:
    return 1 if check and not all(outcome.met for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = ", ".join(BENCHMARKS)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        type=_name,
        help=f"what to measure: {names}; or a group of them: {', '.join(GROUPS)}; default: all that need no hours",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout; the tables go to stderr")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--quick", action="store_true", help="few samples, to see whether it works")
    sizes = parser.add_argument_group("pages", "how much there is for `pages` (default: as much as --quick says)")
    for name in pages.FULL._fields:
        most = getattr(pages.FULL, name)
        sizes.add_argument(f"--{name}", type=int, metavar="N", help=f"{name} (default {most:,})")
    return parser


def _sizes(options: argparse.Namespace) -> Sizes:
    """What is given, and else what --quick says. Raises SystemExit for what is too small to have one of each."""
    sizes = pages.QUICK if options.quick else pages.FULL
    sizes = sizes._replace(
        **{name: given for name in sizes._fields if (given := getattr(options, name)) is not None}
    )
    for name, least in pages.LEAST._asdict().items():
        if getattr(sizes, name) < least:
            raise SystemExit(f"--{name} {getattr(sizes, name)}: give at least {least}")
    return sizes


def _name(text: str) -> str:
    if text not in BENCHMARKS and text not in GROUPS:
        raise argparse.ArgumentTypeError(f"{text!r} is no benchmark; there are {', '.join(BENCHMARKS)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
