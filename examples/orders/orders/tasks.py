"""An order, from the shop to the warehouse, that survives a crash half-way."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from samovar import Abort, Retry, checkpoint, current_run, task

LEDGER = Path("/ledger")
PRICES = {"samovar": Decimal("249.00"), "tea": Decimal("7.50"), "glass": Decimal("4.20")}
STOCK = {"samovar": 3, "tea": 500, "glass": 80}


@dataclass
class Item:
    sku: str
    count: int = 1


@dataclass
class Order:
    id: str
    items: list[Item]
    total: Decimal


@task(
    retry=Retry(max_attempts=3, min_delay="200ms", max_delay="2s"),
    mounts={"ledger": "/ledger"},
)
def process_order(order_id: str, items: list[Item] | None = None, crash: bool = True) -> dict[str, object]:
    """Fetch, charge, take from stock. With `crash` the first attempt dies between the last two."""
    run = current_run()
    order = checkpoint("fetch", fetch, order_id, items or [Item("samovar"), Item("tea", 2)])
    run.progress(1 / 3, "fetched")
    receipt = checkpoint("charge", charge, order)
    run.progress(2 / 3, "charged")
    if crash and run.attempt == 1:
        print("the process dies here, after the charge")
        os.kill(os.getpid(), signal.SIGKILL)
    left = checkpoint("inventory", take_from_stock, order)
    run.progress(1, "taken from stock")
    return {"order": order.id, "total": order.total, "receipt": receipt, "stock": left}


def fetch(order_id: str, items: list[Item]) -> Order:
    for item in items:
        if item.sku not in PRICES:
            raise Abort(f"order {order_id}: there is no {item.sku!r}")
    return Order(order_id, items, sum((PRICES[item.sku] * item.count for item in items), Decimal(0)))


def charge(order: Order) -> str:
    """Take the money. A real payment service is given the order's id as its idempotency key: if the process
    died after the charge and before its checkpoint was stored, this would run once more."""
    run = current_run()
    receipt = f"receipt-{order.id}"
    line = json.dumps({"order": order.id, "total": str(order.total), "run": run.id, "attempt": run.attempt})
    with open(LEDGER / "charges.log", "a", encoding="utf-8") as ledger:
        ledger.write(line + "\n")
        ledger.flush()
        os.fsync(ledger.fileno())
    print(f"charged {order.total} for {order.id}")
    return receipt


def take_from_stock(order: Order) -> dict[str, int]:
    return {item.sku: STOCK[item.sku] - item.count for item in order.items}
