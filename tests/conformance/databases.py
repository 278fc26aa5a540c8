"""Real databases for tests: SQLite files, and a private PostgreSQL cluster on a loopback port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url


def postgres_binaries() -> Path | None:
    """Where initdb and pg_ctl are; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return Path(path).resolve().parent if path else None


@dataclass
class Server:
    """A PostgreSQL cluster of its own, which tests may stop and start."""

    binaries: Path
    home: Path
    port: int
    #: Whether an acknowledged commit is on the disk. Most tests do not look at that, and the disk is shared.
    durable: bool = False

    @property
    def url(self) -> str:
        return f"postgresql://samovar@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str, check: bool = True) -> None:
        # PostgreSQL refuses to run as root
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, str(self.binaries / program), "-D", str(self.home / "data"), *arguments]
        subprocess.run(command, check=check, capture_output=True, timeout=60, cwd="/")

    def start(self) -> None:
        fsync = "on" if self.durable else "off"
        options = (
            f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 -c fsync={fsync} -c max_connections=120"
        )
        self.run("pg_ctl", "-l", str(self.home / "log"), "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-m", mode, "-w", "stop", check=False)


@contextmanager
def server(binaries: Path, *, durable: bool = False) -> Iterator[Server]:
    """A running cluster, which is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="samovar-pg-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Server(binaries, home, port, durable)
    made.run("initdb", "-U", "samovar", "-A", "trust", "--no-sync", "-E", "UTF8")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def cluster(binaries: Path) -> Iterator[str]:
    """The URL of a cluster of its own, which is gone afterwards."""
    with server(binaries) as made:
        yield made.url


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of a new, empty database on that server."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"samovar_test_{os.getpid()}_{os.urandom(4).hex()}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as conn:
            conn.execute(text(f"CREATE DATABASE {name}"))
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as conn:
            conn.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        engine.dispose()
