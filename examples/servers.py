"""What examples/payouts reaches, on a loopback address of its own: a PostgreSQL database and an HTTP API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: Of loopback, where nothing else listens; the ports are the usual ones, which the task names.
ADDRESS = "127.53.7.1"
HOSTS = f"{ADDRESS} db.demo.internal rates.demo.internal\n"
PRIVATE = ["db.demo.internal:5432", "rates.demo.internal:8080"]
RATES = {"EUR": "1", "USD": "0.9", "GBP": "1.15"}
INVOICES = """
CREATE TABLE invoices (supplier text, month text, amount numeric(12, 2), currency text);
INSERT INTO invoices VALUES
    ('Ada''s Tea', '2026-01', 100.00, 'EUR'), ('Ada''s Tea', '2026-01', 20.50, 'EUR'),
    ('Brass & Co', '2026-01', 70.00, 'USD'), ('Ceylon Ltd', '2026-01', 10.00, 'GBP'),
    ('Brass & Co', '2026-02', 999.00, 'USD');
CREATE ROLE payouts LOGIN;
GRANT SELECT ON invoices TO payouts;
"""


@contextmanager
def rates(key: str) -> Iterator[None]:
    """The API; who does not show `key` is refused."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["authorization"] == f"Bearer {key}"
            body = json.dumps(RATES if allowed else {"error": "no key"}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer((ADDRESS, 8080), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def database() -> Iterator[None]:
    """A PostgreSQL cluster of its own with some invoices, gone afterwards."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise SystemExit(
            "PostgreSQL is not installed: `make setup` does that where it may (apt-get install postgresql)"
        )
    home = Path(tempfile.mkdtemp(prefix="samovar-demo-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")

    def run(program: str, *arguments: str, stdin: str | None = None, check: bool = True) -> None:
        # it refuses to run as root
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        line = [*user, str(found[-1].parent / program), *arguments]
        subprocess.run(line, check=check, capture_output=True, timeout=60, cwd="/", input=stdin, text=True)

    data = str(home / "data")
    try:
        run("initdb", "-D", data, "-U", "demo", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-p 5432 -k {home} -c listen_addresses={ADDRESS} -c fsync=off"
        run("pg_ctl", "-D", data, "-l", str(home / "log"), "-w", "-o", options, "start")
        run("psql", "-h", str(home), "-U", "demo", "-q", "postgres", stdin=INVOICES)
        yield
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(home, ignore_errors=True)
