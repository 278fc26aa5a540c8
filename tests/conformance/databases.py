"""Real databases for tests: SQLite files, and a private PostgreSQL cluster on a loopback port."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tests.ports import free_port

#: Bytes of memory that are free where clusters are kept in it.
_ROOM = 2 * 1024**3


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
        kept = "on" if self.durable else "off"
        options = (
            f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 -c fsync={kept} "
            f"-c full_page_writes={kept} -c max_connections=120"
        )
        self.run("pg_ctl", "-l", str(self.home / "log"), "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-m", mode, "-w", "stop", check=False)


@functools.cache
def _new_cluster(binaries: Path) -> Path:
    """A cluster that was never started, to be copied: to make one takes as long as a dozen copies."""
    home = _home()
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    Server(binaries, home, 0).run("initdb", "-U", "samovar", "-A", "trust", "--no-sync", "-E", "UTF8")
    return home / "data"


def memory() -> Path | None:
    """A directory in memory, where there is plenty: for databases of which no test asks whether they outlive it.

    A cluster is a thousand files, and a commit waits for the disk, which builds of images keep busy.
    """
    found = Path("/dev/shm")
    roomy = os.access(found, os.W_OK) and shutil.disk_usage(found).free > _ROOM
    return found if roomy else None


def _home(durable: bool = False) -> Path:
    home = Path(tempfile.mkdtemp(prefix="samovar-pg-", dir=None if durable else memory()))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    return home


@contextmanager
def server(binaries: Path, *, durable: bool = False) -> Iterator[Server]:
    """A running cluster, which is gone afterwards."""
    home = _home(durable)
    port = free_port()
    made = Server(binaries, home, port, durable)
    # with its owner and its rights, which PostgreSQL looks at
    subprocess.run(["cp", "-a", _new_cluster(binaries), home / "data"], check=True)
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
