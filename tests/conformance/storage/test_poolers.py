"""A real PgBouncer before PostgreSQL: whole sessions work, and what takes them apart is refused at the start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from coordinator.storage import poolers
from coordinator.storage.database import Database
from tests.conformance.databases import fresh_database
from tests.conformance.store import Store
from tests.ports import free_port
from tests.unit.coordinator.conftest import ok, serving
from tests.waiting import eventually

BOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(BOUNCER is None, reason="no PgBouncer: apt-get install pgbouncer")


@contextmanager
def bouncer(postgres: str, mode: str, **settings: int) -> Iterator[str]:
    """The URL of a new database, by way of a PgBouncer in this mode."""
    with fresh_database(postgres) as direct:
        server = make_url(direct)
        home = Path(tempfile.mkdtemp(prefix="samovar-pgbouncer-"))
        port = free_port()
        lines = [
            "[databases]",
            f"{server.database} = host={server.host} port={server.port} user={server.username}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            f"pool_mode = {mode}",
            "max_client_conn = 200",
            *(f"{name} = {value}" for name, value in {"default_pool_size": 60, **settings}.items()),
        ]
        (home / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        user = []
        if os.geteuid() == 0:
            # it refuses to run as root
            for path in (home, home / "pgbouncer.ini"):
                shutil.chown(path, "postgres")
            user = ["runuser", "-u", "postgres", "--"]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen([*user, str(BOUNCER), str(home / "pgbouncer.ini")], stdout=log, stderr=log)
            url = server.set(port=port)
            try:

                def answers() -> bool:
                    assert process.poll() is None, (home / "log").read_text()
                    try:
                        psycopg.connect(url.set(drivername="postgresql").render_as_string(False)).close()
                    except psycopg.OperationalError:
                        return False
                    return True

                eventually(answers, "PgBouncer to answer")
                yield url.render_as_string(hide_password=False)
            finally:
                process.terminate()
                process.wait(20)
                shutil.rmtree(home, ignore_errors=True)


def test_a_coordinator_works_by_way_of_sessions(postgres: str, tmp_path: Path) -> None:
    with bouncer(postgres, "session") as url:
        # made by one, followed by another: wake-ups, duties and transactions go the same way
        with serving(tmp_path, url) as (one, _), serving(tmp_path, url) as (two, _):
            one.deploy()
            run = one.trigger()["id"]
            assignment = two.claim_one()
            assert assignment["run"] == run
            ok(two.attempt(assignment, "start", start="cold"))
            ok(two.attempt(assignment, "finish", outcome="completed", result=1))
            assert ok(one.admin.get(f"/api/v1/runs/{run}/wait", params={"timeout": 30}))["result"] == 1
            duties = [set(ok(api.admin.get("/readyz"))["duties"]) for api in (one, two)]
            assert not duties[0] & duties[1]
            eventually(
                lambda: {d for api in (one, two) for d in ok(api.admin.get("/readyz"))["duties"]} >= {"sweep"},
                "the duties to be held",
            )


def test_limits_hold_in_a_pooled_session(postgres: str) -> None:
    with bouncer(postgres, "session") as url:
        store = Store(url)
        store.database.migrate()

        def limits(conn: Connection, now: float) -> tuple[str, str]:
            return tuple(conn.scalar(text(f"SHOW {name}")) for name in ("lock_timeout", "statement_timeout"))  # type: ignore[return-value]

        assert store.read(limits) == ("5s", "30s")
        assert store.deploy()
        store.database.close()


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", {}),
        ("transaction", {"server_round_robin": 1, "min_pool_size": 5}),
        ("transaction", {"default_pool_size": 1}),
        ("statement", {}),
    ],
)
def test_what_takes_sessions_apart_is_refused_at_the_start(
    postgres: str, tmp_path: Path, mode: str, settings: dict[str, int]
) -> None:
    with bouncer(postgres, mode, **settings) as url:
        database = Database(url)
        try:
            with pytest.raises(poolers.NotSessions, match=f"the mode '{mode}'.*set pool_mode = session"):
                database.migrate()
        finally:
            database.close()


def test_the_process_ends_with_the_sentence(postgres: str, tmp_path: Path) -> None:
    with bouncer(postgres, "transaction") as url:
        command = [sys.executable, "-m", "coordinator", "--data", str(tmp_path), "--database-url", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "set pool_mode = session" in done.stderr


def test_postgresql_itself_and_one_that_is_away_are_let_pass(postgres: str) -> None:
    with fresh_database(postgres) as url:
        database = Database(url)
        assert database.session is not None
        poolers.check(database.session)
        poolers.check({**database.session, "port": 1})
        database.close()
