"""A supplier's price list comes in as a signed webhook; each article is priced in a run of its own."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from samovar import Abort, Webhook, task

MARGIN = Decimal("1.35")
#: What one batch may have.
BATCH = 1000


@task
def price_article(sku: str, cost: Decimal) -> Decimal:
    """What an article sells for. Stands for work that takes long, or fails, for one article and not for another."""
    if cost <= 0:
        raise Abort(f"{sku} costs {cost}: the supplier's list is wrong there")
    return (cost * MARGIN).quantize(Decimal("0.01"), ROUND_HALF_UP)


@task(webhook=Webhook("supplier", secret="SUPPLIER_SECRET", scheme="standard"))
def take_price_list(payload: dict, delivery_id: str) -> dict:
    """Prices every article of the list, and gathers what became of them.

    While the children run this run holds no container: it goes on, from the top, when all of them have ended. The
    batches are known by their order, so nothing is triggered twice.
    """
    articles = payload["articles"]
    items = [{"sku": article["sku"], "cost": article["cost"]} for article in articles]
    results = []
    for first in range(0, len(items), BATCH):
        results += price_article.batch_trigger_and_wait(items[first : first + BATCH])
    total, wrong = Decimal(0), {}
    for item, child in zip(items, results, strict=True):
        if child.ok:
            total += Decimal(child.result())
        else:
            wrong[item["sku"]] = str(child.error)
    return {"list": delivery_id, "articles": len(items), "total": total, "wrong": wrong}
