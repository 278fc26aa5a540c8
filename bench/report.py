"""The figures for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Outcome, Series


def show(console: Console, outcome: Outcome) -> None:
    """One benchmark as a table, and whether it is what was promised."""
    table = Table(title=f"{outcome.name}: {outcome.what}", title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for heading in ("n", "median", "p95", "p99", "samovar ÷ this"):
        table.add_column(heading, justify="right")
    for series in outcome.samovar:
        table.add_row(*_row(series), "")
    for series in outcome.peers:
        ratio = outcome.ratio(series)
        table.add_row(*_row(series), "" if ratio is None else f"{ratio:.2f}x")
    console.print(table)
    for target in outcome.targets:
        verdict = "[green]met[/]" if target.met else "[red]missed[/]"
        console.print(
            f"  target: {target.name}: {_number(target.value)} {target.unit}, at most {target.limit:g}: {verdict}"
        )
    for note in outcome.notes:
        console.print(f"  {note}", style="dim")
    console.print()


def show_machine(console: Console, facts: dict[str, Any]) -> None:
    console.print(
        f"{facts['cpus']} cpus, {facts['memory_bytes'] / 1024**3:.0f} GiB, Linux {facts['kernel']}, "
        f"Docker Engine {facts['engine']} ({facts['runtime']}, {facts['storage_driver']}, "
        f"cgroup v{facts['cgroup']}), Python {facts['python']}, load {facts['load'][0]:g}",
        style="dim",
    )


def _row(series: Series) -> tuple[str, ...]:
    values = (series.median, series.percentile(95), series.percentile(99))
    return (series.name, str(len(series.samples)), *(f"{_number(value)} {series.unit}" for value in values))


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
