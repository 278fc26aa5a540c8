"""The pool's policy replayed over a trace: cold starts and delays for a given memory.

    python -m bench.pool_replay                                made-up day of 80 tasks, 1 to 16 GiB
    python -m bench.pool_replay --azure-2019 FOLDER
    python -m bench.pool_replay --azure-2021 FILE
    python -m bench.pool_replay --svg docs/reference/pool-replay.svg

The classes are those that the runner uses, and the engine is that of the what-if (coordinator/keeping/).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import traces
from bench.figures import Outcome, Series, Target
from bench.plot import lines
from bench.traces import MIB
from coordinator.keeping.replay import Call, Replay, Setup

#: Where all the trace's work has room; and mean delays, of others of the same memory.
TARGET_GIB = (8, 12, 16)
_OVER = {"lru-10min": 0.45, "lru-60s": 0.4}


SETUPS = (
    Setup("lru-60s", "ttl", 60, waits=False),
    Setup("lru-10min", "ttl", 600, waits=False),
    Setup("lru", "lru", waits=False),
    Setup("lfu", "lfu", waits=False),
    Setup("greedy-dual", "greedy-dual", waits=False),
    Setup("lru + wait", "lru"),
    Setup("greedy-dual + wait", "greedy-dual"),
)


def replay(
    calls: Sequence[Call], memories: Sequence[int], setups: Sequence[Setup] = SETUPS
) -> list[dict[str, object]]:
    """One row for each policy and memory (bytes)."""
    return [
        {"policy": setup.name, "memory": memory, **Replay(setup, memory).run(calls).summary()}
        for memory in memories
        for setup in setups
    ]


def outcomes(count: int) -> list[Outcome]:
    """The made-up trace of `count` tasks: the default rule against LRU, at the same memory."""
    calls = traces.made_up(1, count, 86_400.0)
    found = []
    for gib in TARGET_GIB:
        rows = {str(row["policy"]): row for row in replay(calls, [gib * 1024 * MIB])}
        mine = rows["greedy-dual + wait"]
        delay = Series("greedy-dual + wait: mean delay", "ms", [float(str(mine["mean_delay_ms"]))])
        peers = [Series(f"{name}: mean delay", "ms", [float(str(rows[name]["mean_delay_ms"]))]) for name in _OVER]
        targets = [
            Target(f"mean delay over {name}", delay.median / peer.median, most, "x")
            for (name, most), peer in zip(_OVER.items(), peers, strict=True)
        ]
        cold, lru = (float(str(row["cold_ratio"])) for row in (mine, rows["lru"]))
        targets.append(Target("cold starts over LRU's", cold / lru, 1.0, "x"))
        targets.append(Target("runs dropped", float(str(mine["dropped"])), 0, ""))
        found.append(Outcome(f"replay: {gib} GiB", f"{len(calls)} runs of a made-up day", [delay], peers, targets))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=80)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--gib", type=float, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--azure-2019", type=Path, metavar="FOLDER")
    parser.add_argument("--azure-2021", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, help="where to draw cold starts and delays against memory")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.azure_2019:
        calls = traces.azure_2019(given.azure_2019, seed=given.seed)
    elif given.azure_2021:
        calls = traces.azure_2021(given.azure_2021, seed=given.seed)
    else:
        calls = traces.made_up(given.seed, given.tasks, 3600 * given.hours)
    rows = replay(calls, [int(1024 * MIB * gib) for gib in given.gib])
    if given.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
    else:
        print(f"{len(calls)} runs of {len({call.task.name for call in calls})} tasks")
        print(f"{'memory':>8} {'policy':<20} {'cold':>8} {'waited':>8} {'mean':>9} {'p99':>9} {'dropped':>8}")
        for row in rows:
            print(
                f"{int(str(row['memory'])) / 1024 / MIB:>4.0f} GiB {row['policy']:<20} {row['cold_ratio']:>7.2%} "
                f"{row['waited_ratio']:>7.2%} {row['mean_delay_ms']:>6.0f} ms {row['p99_delay_ms']:>6.0f} ms "
                f"{row['dropped']:>8}"
            )
    if given.svg:
        given.svg.write_text(lines(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
