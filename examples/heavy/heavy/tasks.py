"""A table of sales too large to be careless with, aggregated twice: in pieces, and all at once."""

from __future__ import annotations

import os
from pathlib import Path

# before numpy is imported: each of its threads would have a buffer of its own, for nothing here
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from samovar import checkpoint, current_run, task

DATA = Path("/data")
ROWS = 4_000_000
PIECE = 250_000
SHOPS = 50
SEED = 20250131

SALE = np.dtype([("at", "<i8"), ("customer", "<i8"), ("shop", "<i4"), ("count", "<i4"), ("price", "<f8")])


@task(memory="160m", mounts={"datasets": "/data"})
def aggregate(rows: int = ROWS) -> dict[str, object]:
    """Turnover by shop, a piece of the table at a time."""
    table = DATA / checkpoint("table", make_table, rows)
    turnover = np.zeros(SHOPS)
    with open(table, "rb") as file:
        for start in range(0, rows, PIECE):
            piece = np.fromfile(file, SALE, min(PIECE, rows - start))
            turnover += np.bincount(piece["shop"], piece["count"] * piece["price"], SHOPS)
            current_run().progress((start + len(piece)) / rows, f"{start + len(piece)} rows")
    return summary(table, turnover)


@task(memory="256m", mounts={"datasets": "/data"})
def aggregate_greedy(rows: int = ROWS) -> dict[str, object]:
    """The same, with the whole table in memory, and a sorted copy of it, and one of that."""
    table = DATA / checkpoint("table", make_table, rows)
    sales = np.fromfile(table, SALE)
    by_shop = sales[np.argsort(sales["shop"], kind="stable")]
    amounts = by_shop["count"] * by_shop["price"]
    by_amount = by_shop[np.argsort(amounts)]
    print(f"{by_amount.nbytes} bytes sorted twice")
    return summary(table, np.bincount(by_shop["shop"], amounts, SHOPS))


def make_table(rows: int) -> str:
    """Write the table unless it is there; its name. The same rows from the same seed, wherever it runs."""
    name = f"sales-{rows}.bin"
    path = DATA / name
    if path.exists() and path.stat().st_size == rows * SALE.itemsize:
        print(f"{name} is there")
        return name
    random = np.random.default_rng(SEED)
    partial = DATA / f"{name}.{current_run().id}"
    with open(partial, "wb") as file:
        for start in range(0, rows, PIECE):
            piece = np.zeros(min(PIECE, rows - start), SALE)
            piece["at"] = 1_700_000_000 + np.arange(start, start + len(piece))
            piece["customer"] = random.integers(0, 1_000_000, len(piece))
            piece["shop"] = random.integers(0, SHOPS, len(piece))
            piece["count"] = random.integers(1, 10, len(piece))
            piece["price"] = random.integers(100, 10_000, len(piece)) / 100
            piece.tofile(file)
    partial.rename(path)  # whole or not at all: another run may look for it at any time
    print(f"{name} made: {path.stat().st_size} bytes")
    return name


def summary(table: Path, turnover: np.ndarray) -> dict[str, object]:
    best = int(turnover.argmax())
    return {
        "bytes": table.stat().st_size,
        "turnover": round(float(turnover.sum()), 2),
        "best_shop": best,
        "best_turnover": round(float(turnover[best]), 2),
    }
