"""A refund that a person has to approve, within days, while no container is held."""

from __future__ import annotations

import json
import os
from pathlib import Path

from samovar import WaitTimeout, checkpoint, task, wait

LEDGER = Path("/ledger")
#: Cents that are refunded without asking.
SMALL = 5_000


@task(mounts={"ledger": "/ledger"})
def refund(order_id: str, cents: int, within: str = "7d") -> dict[str, object]:
    """Ask, wait for the answer, pay. Up to the answer this is a row in a database, for as long as it takes."""
    if cents > SMALL:
        approval = wait.token(timeout=within, key="approval")
        checkpoint("ask", ask, order_id, cents, approval.url)
        try:
            answer = approval.result()
        except WaitTimeout:
            return {"order": order_id, "paid": 0, "why": f"nobody answered within {within}"}
        if not answer["approved"]:
            return {"order": order_id, "paid": 0, "why": f"{answer['by']} said no"}
    checkpoint("pay", note, "refunds.log", {"order": order_id, "cents": cents})
    return {"order": order_id, "paid": cents, "why": f"approved by {answer['by']}" if cents > SMALL else "small"}


def ask(order_id: str, cents: int, url: str) -> None:
    """A real one sends a mail with two buttons; whoever has the URL may answer, once."""
    note("outbox.log", {"to": "boss@example.com", "order": order_id, "cents": cents, "url": url})


def note(name: str, entry: dict[str, object]) -> None:
    with open(LEDGER / name, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
