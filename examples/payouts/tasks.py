"""What suppliers are owed: out of a database, at the rates of an API with a key, into a file that the run keeps."""

from __future__ import annotations

import csv
import json
from decimal import ROUND_HALF_UP, Decimal
from typing import TextIO
from urllib.request import Request, urlopen

import psycopg
import samovar
from samovar import File, task

DATABASE = "postgresql://payouts@db.demo.internal/postgres"
RATES = "http://rates.demo.internal:8080/v1/rates?to=EUR"
CENT = Decimal("0.01")


@task(
    # nothing else is reached, by whatever client; the addresses are private, and the operator's policy allows them
    network=["db.demo.internal:5432", "rates.demo.internal:8080"],
    secrets=["RATES_KEY"],
)
def pay_out(month: str) -> dict:
    """`{"suppliers", "total", "file"}`; the file has a line for each supplier."""
    rates = samovar.checkpoint("rates", fetch_rates)
    owed = samovar.checkpoint("owed", read_owed, month)
    lines = [(name, amount, currency, in_euros(amount, rates[currency])) for name, amount, currency in owed]

    def write(path: str) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            write_csv(file, lines)

    kept: File = samovar.artifact(f"payouts-{month}.csv", write)
    print(f"{len(lines)} suppliers, {kept.size} bytes in {kept.name}")
    return {"suppliers": len(lines), "total": sum((euros for *_, euros in lines), Decimal(0)), "file": kept}


def fetch_rates() -> dict[str, Decimal]:
    request = Request(RATES, headers={"Authorization": f"Bearer {samovar.secret('RATES_KEY')}"})
    print("asking for rates with the key", samovar.secret("RATES_KEY"))  # a mistake that costs nothing: see the log
    with urlopen(request, timeout=10) as answer:
        return {currency: Decimal(rate) for currency, rate in json.load(answer).items()}


def read_owed(month: str) -> list[tuple[str, Decimal, str]]:
    query = "SELECT supplier, sum(amount), currency FROM invoices WHERE month = %s GROUP BY 1, 3 ORDER BY 1"
    with psycopg.connect(DATABASE, connect_timeout=10) as connection:
        return [(name, amount, currency) for name, amount, currency in connection.execute(query, (month,))]


def in_euros(amount: Decimal, rate: Decimal) -> Decimal:
    return (amount * rate).quantize(CENT, ROUND_HALF_UP)


def write_csv(file: TextIO, lines: list[tuple[str, Decimal, str, Decimal]]) -> None:
    writer = csv.writer(file)
    writer.writerow(("supplier", "amount", "currency", "euros"))
    writer.writerows(lines)
