"""Work that is done between two tries of a transaction: what the tries of one operation have in common."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator.foundation import again, ids
from coordinator.foundation.again import Again, Job
from tests.conformance.store import Store


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in turn"])
def test_an_id_stays_the_same_from_try_to_try(store: Store, waits: bool) -> None:
    done: list[str] = []

    def operation() -> list[str]:
        seen: list[str] = []

        def work(conn: Connection, now: float) -> None:
            seen.append(again.same("event", ids.event))
            if len(seen) < 3:
                raise Again([Job("orders", lambda: done.append("work"))])

        written: Any = asyncio.run(store.database.write(work)) if waits else store.write(work)
        assert written is None
        return seen

    first, second = operation(), operation()
    assert (len(first), len(set(first)), len(done)) == (3, 1, 4)
    assert set(first) != set(second)
