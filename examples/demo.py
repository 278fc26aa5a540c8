"""The examples on a Samovar of their own: start it, deploy them, run them, and check what came out.

    make demo            (or: .venv/bin/python examples/demo.py [--keep])

Everything is real: three processes on an embedded database, an image for each project, a container for each
run. Exit code 0 only if every run ended as it should. With --keep the install stays up, with its data in .demo/ and
the demo's runs on its dashboard.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import servers  # beside this file
from rich.console import Console
from rich.table import Table
from samovar import Client

EXAMPLES = Path(__file__).resolve().parent
PLACE = EXAMPLES.parent / ".demo"
SAMOVAR = str(Path(sys.executable).parent / "samovar")
READY = 120.0
LONGEST = 300.0

console = Console()
Run = dict[str, Any]


@dataclass
class Outcome:
    """One row of the table: what was run, what came out, and what is wrong with it (nothing, if all is well)."""

    what: str
    run: Run
    wrong: str | None


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the examples for real and print a table.")
    key = secrets.token_urlsafe(24)
    parser.add_argument("--keep", action="store_true", help="leave the install running, with its data in .demo/")
    keep = parser.parse_args().keep
    shutil.rmtree(PLACE, ignore_errors=True)
    policy = prepare_mounts()
    try:
        with servers.rates(key), servers.database(), samovar_up(policy, keep=keep) as client:
            for project in ("orders", "heavy", "approval", "prices", "payouts"):
                deploy(EXAMPLES / project)
            with snippets() as place:
                deploy(place)
            command("secrets", "set", "RATES_KEY", "--project", "payouts", stdin=key)
            outcomes = list(run_all(client, key))
            console.print(table(outcomes))
            explain(outcomes)
            look(keep)
    finally:
        if not keep:
            shutil.rmtree(PLACE, ignore_errors=True)
    wrong = [f"{outcome.what}: {outcome.wrong}" for outcome in outcomes if outcome.wrong]
    for line in wrong:
        console.print(f"[red]wrong[/red] {line}")
    console.print("[green]every run came out as it should[/green]" if not wrong else f"{len(wrong)} did not")
    return 1 if wrong else 0


# ---------------------------------------------------------------- the install


def prepare_mounts() -> Path:
    """Two directories of this host that the policy gives to tasks by name."""
    lines = []
    for name in ("ledger", "datasets"):
        path = PLACE / name
        path.mkdir(parents=True)
        path.chmod(0o777)
        lines.append(f'[mounts.{name}]\npath = "{path}"\nmode = "rw"\n')
    lines.append(f"[network]\nprivate = {json.dumps(servers.PRIVATE)}\n")
    (PLACE / "hosts").write_text(servers.HOSTS)
    policy = PLACE / "policy.toml"
    policy.write_text("".join(lines))
    return policy


@contextmanager
def samovar_up(policy: Path, *, keep: bool) -> Iterator[Client]:
    """`samovar up` on a free port, until the block ends; then Ctrl-C, unless it is to `keep` running."""
    log = PLACE / "up.log"
    command = [SAMOVAR, "--data", str(PLACE / "data"), "up", "--port", "0", "--policy", str(policy)]
    with log.open("wb") as out, console.status("starting Samovar"):
        # where the names that examples/payouts reaches lead
        names = {"SAMOVAR_SIDECAR_HOSTS": str(PLACE / "hosts")}
        # in a session of its own, so that a Ctrl-C here is not one there
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **names}, start_new_session=True
        )
        deadline = time.monotonic() + READY
        while b"is ready at" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise SystemExit(f"Samovar did not start:\n{log.read_text()}")
            time.sleep(0.05)
    console.print(log.read_text().splitlines()[0])
    try:
        credentials = json.loads((PLACE / "data" / "credentials.json").read_text())
        with Client(credentials["url"], credentials["api_key"]) as client:
            yield client
    except BaseException:
        keep = False
        raise
    finally:
        if keep:
            console.print(f"it stays up, with its data in {PLACE / 'data'}: `kill {process.pid}` stops it")
        else:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def look(keep: bool) -> None:
    """Says where all of this is to be seen."""
    link = command("open", "--print")["url"]
    console.print(f"the dashboard: {link if keep else link.partition('/login/')[0]}", soft_wrap=True)
    if keep:
        console.print("[dim]the link signs in once, on this machine, within a quarter of an hour[/dim]")
    else:
        console.print("[dim]`make demo KEEP=1` leaves it running with these runs[/dim]")


def command(*arguments: str, stdin: str | None = None) -> Any:
    """The document of `samovar ARGUMENTS --json`."""
    line = [SAMOVAR, "--data", str(PLACE / "data"), "--json", *arguments]
    result = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False, input=stdin)
    if result.returncode != 0:
        raise SystemExit(f"samovar {' '.join(arguments)} failed:\n{result.stdout}")
    return json.loads(result.stdout)


def deploy(project: Path) -> None:
    began = time.monotonic()
    deployed = command("deploy", str(project))
    console.print(f"deployed {deployed['project']} {deployed['version']} in {time.monotonic() - began:.1f} s")


@contextmanager
def snippets() -> Iterator[Path]:
    """examples/snippets as it is where this host has gVisor; else a copy that runs in ordinary containers."""
    engine = subprocess.run(
        ["docker", "info", "--format", "{{json .Runtimes}}"], capture_output=True, text=True, check=False
    )
    if "runsc" in engine.stdout:
        yield EXAMPLES / "snippets"
        return
    console.print("this host has no gVisor (samovar doctor says more): snippets run in ordinary containers")
    # not below this folder: what git ignores is no part of a project
    with tempfile.TemporaryDirectory(prefix="samovar-demo-") as folder:
        copy = Path(folder) / "snippets"
        shutil.copytree(EXAMPLES / "snippets", copy, ignore=shutil.ignore_patterns("__pycache__"))
        toml = copy / "samovar.toml"
        toml.write_text(toml.read_text().replace('trust = "untrusted"', 'trust = "project"'))
        yield copy


# ---------------------------------------------------------------- the runs


def run_all(client: Client, key: str) -> Iterator[Outcome]:
    def run(what: str, task: str, check: Callable[[Run], str | None], **payload: Any) -> Outcome:
        with console.status(what):
            done = client.trigger(task, payload).wait(LONGEST).data
        return Outcome(what, done, check(done))

    yield run("order: crashes, resumes", "process-order", resumed, order_id="A-1")
    yield run("order: in the warm container", "process-order", completed_warm, order_id="A-2", crash=False)
    yield run("heavy: 128 MB, in pieces", "aggregate", aggregated)
    yield run("heavy: the same, warm", "aggregate", completed_warm)
    yield run("heavy: too much at once", "aggregate-greedy", out_of_memory)
    yield run("payouts: database, API, file", "pay-out", lambda done: paid_out(client, done, key), month="2026-01")
    yield run("snippet: prints", "run-snippet", printed_42, code="print(6 * 7)")
    given = PLACE / "numbers.txt"
    given.write_text("6\n7\n")
    with console.status("snippet: a file in, a file out"):
        done = (
            client.trigger("run-snippet", {"code": MULTIPLIES, "files": [client.upload(given)]}).wait(LONGEST).data
        )
    yield Outcome("snippet: a file in, one out", done, multiplied(client, done))
    yield run("snippet: never ends", "run-snippet", timed_out, code="while True: pass")
    yield run("snippet: looks for a network", "run-snippet", no_network, code=LOOKS_OUT)
    with console.status("prices: 1,000 children of a webhook"):
        done = client.run(send_price_list(ARTICLES)).wait(LONGEST).data
    yield Outcome(f"prices: {ARTICLES} of a webhook", done, gathered(done))

    yield approve(client)
    yield run("approval: nobody answers", "refund", unanswered, order_id="A-4", cents=12_900, within="1s")


def approve(client: Client) -> Outcome:
    """Somebody says yes while the run waits without a container."""
    what = "approval: Ada says yes"
    with console.status(what):
        run = client.trigger("refund", {"order_id": "A-3", "cents": 12_900})
        deadline = time.monotonic() + LONGEST
        while run.refresh().status != "waiting" and time.monotonic() < deadline:
            time.sleep(0.05)
        mails = [json.loads(line) for line in (PLACE / "ledger" / "outbox.log").read_text().splitlines()]
        (mail,) = [mail for mail in mails if mail["order"] == "A-3"]
        client.complete_token(mail["url"].rpartition("/")[2], {"approved": True, "by": "Ada"})
        done = run.wait(LONGEST).data
    return Outcome(what, done, approved(done))


MULTIPLIES = """
numbers = [int(line) for line in open("numbers.txt")]
with open("product.txt", "w") as file:
    file.write(str(numbers[0] * numbers[1]))
"""
LOOKS_OUT = "import socket\nprint([name for _, name in socket.if_nameindex()])"


ARTICLES = 1000


def send_price_list(count: int) -> str:
    """A supplier's list as a signed webhook, the last article's cost missing; the run that it makes."""
    key = os.urandom(24)
    command("secrets", "set", "SUPPLIER_SECRET", "--project", "prices", stdin=base64.b64encode(key).decode())
    (hook,) = (item for item in command("webhooks", "urls")["items"] if item["project"] == "prices")
    articles = [{"sku": f"A-{number}", "cost": f"{number + 1}.00"} for number in range(count)]
    articles[-1]["cost"] = "0"
    body = json.dumps({"articles": articles}).encode()
    at = str(int(time.time()))
    signature = base64.b64encode(hmac.digest(key, f"list-1.{at}.".encode() + body, hashlib.sha256)).decode()
    headers = {"webhook-id": "list-1", "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
    answers = []
    for _ in range(2):  # as senders do that did not hear the first answer: it is the same run
        with urlopen(Request(hook["url"], body, {"content-type": "application/json", **headers})) as answer:
            answers.append(json.load(answer))
    assert answers[0] == answers[1], answers
    return str(answers[0]["run"])


def gathered(run: Run) -> str | None:
    if wrong := completed(run):
        return wrong
    result = run["result"]
    if (result["articles"], list(result["wrong"])) != (ARTICLES, [f"A-{ARTICLES - 1}"]):
        return f"it gathered {result}"
    total = f"{1.35 * sum(range(ARTICLES)):.2f}"
    return None if result["total"] == total else f"the total is {result['total']}, not {total}"


def completed(run: Run) -> str | None:
    if run["status"] != "completed":
        return f"{run['status']}, not completed: {(run['error'] or {}).get('message')}"
    return None


def completed_warm(run: Run) -> str | None:
    return completed(run) or (None if run["timings"]["start"] != "cold" else "it was not warm")


def resumed(run: Run) -> str | None:
    charges = [json.loads(line) for line in (PLACE / "ledger" / "charges.log").read_text().splitlines()]
    times = sum(charge["order"] == "A-1" for charge in charges)
    if times != 1:
        return f"charged {times} times"
    return completed(run) or (None if run["attempts"] == 2 else f"{run['attempts']} attempts, not 2")


def aggregated(run: Run) -> str | None:
    return completed(run) or (None if run["result"]["bytes"] >= 100_000_000 else "the table is too small")


def out_of_memory(run: Run) -> str | None:
    error = run["error"] or {}
    if (run["status"], error.get("reason")) != ("failed", "out_of_memory"):
        return f"{run['status']} ({error.get('reason')}), not out of memory"
    return None if "memory=" in error["message"] else "no advice"


def printed_42(run: Run) -> str | None:
    return completed(run) or (None if run["result"]["output"] == "42\n" else f"it printed {run['result']}")


def multiplied(client: Client, run: Run) -> str | None:
    if problem := completed(run):
        return problem
    kept = {one.name: one.read() for one in client.run(run["id"]).artifacts()}
    return None if kept == {"product.txt": b"42"} else f"it kept {kept}"


def paid_out(client: Client, run: Run, key: str) -> str | None:
    if problem := completed(run):
        return problem
    handle = client.run(run["id"])
    text = handle.artifact("payouts-2026-01.csv").read().decode()
    if text.splitlines()[1:] != [
        "Ada's Tea,120.50,EUR,120.50",
        "Brass & Co,70.00,USD,63.00",
        "Ceylon Ltd,10.00,GBP,11.50",
    ]:
        return f"the file says {text!r}"
    log = [line["message"] for line in handle.logs()]
    if key in "".join(log) or "asking for rates with the key ***" not in log:
        return f"its log says {log}"
    reached = sorted(f"{host['host']}:{host['port']}" for host in handle.attempts()[-1]["egress"])
    return None if reached == sorted(servers.PRIVATE) else f"it reached {reached}"


def timed_out(run: Run) -> str | None:
    return None if run["status"] == "timed_out" else f"{run['status']}, not timed_out"


def no_network(run: Run) -> str | None:
    return completed(run) or (None if run["result"]["output"] == "['lo']\n" else f"it saw {run['result']}")


def approved(run: Run) -> str | None:
    if problem := completed(run):
        return problem
    refunds = (PLACE / "ledger" / "refunds.log").read_text().splitlines()
    if run["result"]["why"] != "approved by Ada" or len(refunds) != 1:
        return f"{run['result']}, and {len(refunds)} refunds"
    return None if run["attempts"] == 2 else f"{run['attempts']} attempts, not 2"


def unanswered(run: Run) -> str | None:
    return completed(run) or (None if run["result"]["paid"] == 0 else "it was paid")


# ---------------------------------------------------------------- the table


def table(outcomes: list[Outcome]) -> Table:
    shown = Table(title="what ran", title_justify="left", padding=(0, 0), collapse_padding=True)
    shown.add_column("run", min_width=26)
    shown.add_column("start", no_wrap=True)
    for column in ("queued\nms", "start\nms", "run\nms", "tries", "peak\nMiB"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("outcome", no_wrap=True)
    for outcome in outcomes:
        run, timings, usage = outcome.run, outcome.run["timings"], outcome.run["usage"]
        shown.add_row(
            outcome.what,
            timings["start"],
            *(number(timings[name]) for name in ("queued_ms", "start_ms", "run_ms")),
            str(run["attempts"]),
            f"{mebibytes(usage['peak_memory_bytes'])}/{mebibytes(usage['memory_limit_bytes'])}",
            f"[red]{run['status']}: wrong[/red]" if outcome.wrong else run["status"],
        )
    return shown


def explain(outcomes: list[Outcome]) -> None:
    """What the failed runs said: the evidence and the advice."""
    for outcome in outcomes:
        if error := outcome.run["error"]:
            console.print(f"[bold]{outcome.what}[/bold]: {error['message']}", highlight=False)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1024**2:.0f}"


if __name__ == "__main__":
    sys.exit(main())
