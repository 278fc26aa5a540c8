"""The store against its model (`machine.py`): thousands of random histories, on both databases."""

from __future__ import annotations

import os

import pytest

from tests.conformance.conftest import _empty
from tests.conformance.histories import explore, hunters, number_ids, on_sqlite
from tests.conformance.machine import deploy
from tests.conformance.store import Store

#: Histories on SQLite; a share of them on PostgreSQL, where a transaction takes longer.
EXAMPLES = int(os.environ.get("SAMOVAR_TEST_EXAMPLES", "150"))
#: The same histories every time, so that a change is what makes a test fail; another number gives others.
SEED = int(os.environ.get("SAMOVAR_TEST_SEED", "0"))


@pytest.mark.timeout(1800)
def test_random_histories_on_sqlite() -> None:
    with hunters() as pool:
        share = -(-EXAMPLES // pool._max_workers)
        hunts = [pool.submit(on_sqlite, share, None, SEED + number) for number in range(pool._max_workers)]
        for found in hunts:
            assert found.result() is None, found.result()


@pytest.mark.timeout(900)
def test_random_histories_on_postgresql(postgres_store: Store) -> None:
    def opening() -> Store:
        postgres_store.now = 1_800_000_000.0
        postgres_store.write(_empty)
        deploy(postgres_store)
        return postgres_store

    with number_ids():
        explore(opening, max(15, EXAMPLES // 20), derandomize=True)
