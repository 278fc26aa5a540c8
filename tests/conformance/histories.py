"""Random histories of the store, explored in processes of their own: one for each processor."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, core, settings
from hypothesis.stateful import run_state_machine_as_test

from coordinator.foundation import ids
from tests.conformance.machine import Machine, deploy
from tests.conformance.store import Store

STEPS = 12


def hunters() -> ProcessPoolExecutor:
    # new processes, and not copies of this one with its threads
    return ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn"))


@contextmanager
def number_ids() -> Iterator[Callable[[], None]]:
    """Ids by number and not by chance, so that a history can be played again; gives what begins them anew."""
    real = ids.new

    def anew() -> None:
        numbers = itertools.count(10**6)
        ids.new = lambda prefix, at=None: f"{prefix}_{next(numbers)}"

    anew()
    try:
        yield anew
    finally:
        ids.new = real


def explore(opening: Callable[[], Store], examples: int, **changed: Any) -> None:
    """Runs the machine; fails with the shortest history that breaks it."""
    options: dict[str, Any] = {
        "max_examples": examples,
        "stateful_step_count": STEPS,
        "deadline": None,
        "database": None,
        "phases": [Phase.generate, Phase.shrink],
        "suppress_health_check": list(HealthCheck),
        **changed,
    }
    run_state_machine_as_test(
        type("Explored", (Machine,), {"open_store": staticmethod(opening)}), settings=settings(**options)
    )


def on_sqlite(
    examples: int, plant: Callable[[pytest.MonkeyPatch], None] | None = None, seed: int | None = None
) -> str | None:
    """What breaks the store (with the bug of `plant` in it), in words; None where nothing is found.

    For a process of its own: the same `seed` gives the same histories.
    """
    core.global_force_seed = seed
    # in memory, where there is such a place: the file is written anew thousands of times
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="samovar-histories-", dir=base))
    path = directory / "history.db"
    changed: dict[str, Any] = {}
    if plant is not None:
        # the bug is known: it need not be found in its shortest form, but every time
        changed = {
            "phases": [Phase.generate],
            "derandomize": seed is None,
            "report_multiple_bugs": False,
            "verbosity": Verbosity.quiet,
        }
    # one store for all histories, since it compiles each statement once
    store = Store(f"sqlite:///{path}")
    begun = store.now
    try:
        store.database.migrate()
        with (
            number_ids() as anew,
            pytest.MonkeyPatch.context() as patch,
            closing(sqlite3.connect(":memory:")) as template,
            closing(sqlite3.connect(path)) as live,
        ):
            deploy(store)
            live.backup(template)

            def opening() -> Store:
                template.backup(live)
                anew()
                store.now = begun
                return store

            if plant is not None:
                plant(patch)
            explore(opening, examples, **changed)
    except (AssertionError, ExceptionGroup):
        return traceback.format_exc()
    finally:
        store.database.close()
        shutil.rmtree(directory)
    return None
