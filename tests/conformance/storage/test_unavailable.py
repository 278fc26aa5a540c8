"""A database that takes no writes, or goes away: 503, nothing half-written, and well again by itself."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import Connection, event, text, update

from coordinator.context import Coordinator
from coordinator.foundation.errors import SchemaTooNew, StorageUnavailable
from coordinator.storage import dialect
from coordinator.storage.database import Database
from coordinator.storage.tables import runs
from tests.conformance.databases import Server, fresh_database, postgres_binaries, server
from tests.conformance.store import Store
from tests.unit.coordinator.conftest import error, ok, serving
from tests.waiting import eventually

KINDS = ["sqlite", "postgresql"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'c.db'}"
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield url


@contextmanager
def read_only(url: str, core: Coordinator) -> Iterator[None]:
    """The database refuses writes until the block ends."""
    if not core.database.shared:

        def refuse(connection: Any, *_: object) -> None:
            connection.execute("PRAGMA query_only=ON")

        def allow(connection: Any, *_: object) -> None:
            connection.execute("PRAGMA query_only=OFF")

        writer = core.database._writer
        event.listen(writer, "checkout", refuse)
        event.listen(writer, "checkin", allow)
        yield
        event.remove(writer, "checkout", refuse)
        return
    connect = dialect.session(url)
    assert connect is not None
    with psycopg.connect(**connect, options="-c default_transaction_read_only=off", autocommit=True) as admin:
        name = connect["dbname"]
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        )
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        admin.execute(others, [name])
        yield
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        admin.execute(others, [name])


def test_a_read_only_database_is_503_and_leaves_nothing(url: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", url) as (api, core):
        api.deploy()
        assignment = api.started()
        with read_only(url, core):
            batch = {"items": [{"payload": {}}, {"payload": {}}]}
            calls: list[Callable[[], httpx.Response]] = [
                lambda: api.admin.post("/api/v1/tasks/greet/runs", json={"idempotency_key": "k", "tags": ["t"]}),
                lambda: api.admin.post("/api/v1/tasks/greet/runs/batch", json=batch),
                lambda: api.admin.post("/api/v1/events", json={"name": "n", "payload": {}}),
                lambda: api.attempt(assignment, "checkpoint", key="k", value=1),
                lambda: api.attempt(assignment, "finish", outcome="completed", result=1),
            ]
            for call in calls:
                refused = call()
                error(refused, 503, "storage_unavailable")
                assert int(refused.headers["Retry-After"]) >= 1
            # what is stored can be read all the same
            assert api.run(assignment["run"])["status"] == "running"
        eventually(lambda: api.admin.get("/readyz").is_success, "the database to take writes again")
        assert [run["id"] for run in ok(api.admin.get("/api/v1/runs"))["items"]] == [assignment["run"]]
        assert ok(api.admin.get(f"/api/v1/runs/{assignment['run']}/checkpoints"))["items"] == []
        ok(api.attempt(assignment, "finish", outcome="completed", result=2))
        assert api.run(assignment["run"])["result"] == 2
        assert api.trigger(idempotency_key="k", tags=["t"])["status"] == "queued"


@pytest.fixture
def restartable() -> Iterator[Server]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with server(binaries) as made:
        yield made


def test_postgresql_is_restarted_under_load(restartable: Server, tmp_path: Path) -> None:
    """Every trigger that was acknowledged is there once; the others were told that they may not be."""
    with serving(tmp_path / "data", restartable.url) as (api, core):
        api.deploy()
        acknowledged: list[str] = []
        refused: list[httpx.Response] = []

        def trigger(n: int) -> None:
            """Until it is acknowledged, as a client does."""

            def sent() -> bool:
                body = {"payload": {"n": n}, "idempotency_key": f"k{n}"}
                answer = api.admin.post("/api/v1/tasks/greet/runs", json=body)
                if answer.is_success:
                    acknowledged.append(answer.json()["id"])
                    return True
                refused.append(answer)
                return False

            eventually(sent, f"trigger {n} to be acknowledged")

        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(trigger, n) for n in range(600)]
            # a poll that is held through it is refused or goes on; it is not left hanging
            held = pool.submit(api.runner.post, "/internal/v1/runners/r1/commands", json={"timeout": 20})
            eventually(lambda: len(acknowledged) > 100, "the load to be on")
            restartable.stop("immediate")
            eventually(lambda: len(refused) > 10, "requests to be refused")
            restartable.start()
            for item in work:
                item.result(60)
            assert held.result(60).status_code in (200, 503)
        assert {answer.status_code for answer in refused} == {503}
        assert all("Retry-After" in answer.headers for answer in refused)
        found = []
        cursor = None
        while True:
            page = ok(
                api.admin.get("/api/v1/runs", params={"limit": 500, **({"cursor": cursor} if cursor else {})})
            )
            found += [run["id"] for run in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert sorted(found) == sorted(acknowledged)
        assert len(set(acknowledged)) == 600
        eventually(lambda: core.waking.hears_others, "it to listen again")
        eventually(lambda: core.seats.held != [], "its duties to be carried out again")


def test_a_schema_newer_than_the_code_is_refused(url: str, tmp_path: Path) -> None:
    database = Database(url)
    database.migrate()
    known = database.read_now(lambda conn, now: conn.scalar(text("SELECT version_num FROM alembic_version")))
    database.write_now(lambda conn, now: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    try:
        with pytest.raises(SchemaTooNew, match=f"has schema 9999, .* up to {known}.*later version"):
            database.migrate()
    finally:
        database.close()
    command = [sys.executable, "-m", "coordinator", "--data", str(tmp_path / "data"), "--database-url", url]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "coordinator: the database has schema 9999" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_commit_whose_answer_is_lost_is_not_called_undone(postgres: str) -> None:
    """The connection breaks under the commit: nobody can say whether it was stored, and the message does not."""
    with fresh_database(postgres) as url:
        store = Store(url)
        store.database.migrate()
        connect = dialect.session(url)
        assert connect is not None

        def cut_at_commit(conn: Any) -> None:
            with psycopg.connect(**connect, autocommit=True) as admin:
                pid = conn.connection.dbapi_connection.info.backend_pid
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        event.listen(store.database._writer, "commit", cut_at_commit)
        try:
            with pytest.raises(StorageUnavailable, match="whether it was stored is not known"):
                store.write(lambda conn, now: conn.execute(text("SELECT 1")))
        finally:
            event.remove(store.database._writer, "commit", cut_at_commit)
        assert store.write(lambda conn, now: conn.scalar(text("SELECT 1"))) == 1
        store.database.close()


def test_of_two_writers_in_a_deadlock_both_come_through(postgres: str) -> None:
    """PostgreSQL ends one of the two transactions; what it was to do is done after the other."""
    with fresh_database(postgres) as url:
        store = Store(url)
        store.database.migrate()
        store.deploy()
        run = [store.trigger().id for _ in range(2)]
        both = Barrier(2)
        begun = Counter[int]()

        def crosswise(conn: Connection, now: float, first: int) -> None:
            begun[first] += 1
            for number in (first, 1 - first):
                conn.execute(update(runs).where(runs.c.id == run[number]).values(losses=runs.c.losses + 1))
                if number == first and begun[first] == 1:
                    both.wait(30)

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(store.write, crosswise, first) for first in (0, 1)]:
                future.result(60)
        assert max(begun.values()) > 1  # one was ended; on a busy server both may be
        assert [store.run(name).losses for name in run] == [2, 2]
        store.database.close()


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of its own for PostgreSQL's user."""
    path = Path(tempfile.mkdtemp(prefix="samovar-disk-"))
    owner = f"uid={pwd.getpwnam('postgres').pw_uid},mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},{owner}", "tmpfs", path], check=False)
    try:
        if mounted.returncode != 0:
            pytest.skip("this process may not mount a file system")
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
        path.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_full_disk_under_postgresql_is_503_and_leaves_nothing(restartable: Server, tmp_path: Path) -> None:
    connect = dialect.session(restartable.url)
    assert connect is not None
    with small_disk("32m") as disk, psycopg.connect(**connect, autocommit=True) as admin:
        admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")  # type: ignore[call-overload]
        admin.execute("CREATE DATABASE small TABLESPACE small")
        with serving(tmp_path / "data", restartable.url.replace("/postgres", "/small")) as (api, _):
            api.deploy()
            acknowledged: list[str] = []

            def refused() -> httpx.Response | None:
                # (what can be compressed takes no room)
                body = {"payload": {"text": os.urandom(6000).hex()}, "tags": ["t"]}
                answer = api.admin.post("/api/v1/tasks/greet/runs", json=body)
                if answer.is_success:
                    acknowledged.append(answer.json()["id"])
                return None if answer.is_success else answer

            ballast = disk / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            full = eventually(refused, "the disk to be full")
            assert full is not None
            error(full, 503, "storage_unavailable")
            assert int(full.headers["Retry-After"]) >= 1
            ballast.unlink()
            before = len(acknowledged)
            eventually(lambda: refused() is None, "there to be room again")
            assert len(acknowledged) == before + 1
            found = ok(api.admin.get("/api/v1/runs", params={"limit": 500, "tag": "t"}))["items"]
            assert sorted(run["id"] for run in found) == sorted(acknowledged)
            with psycopg.connect(**{**connect, "dbname": "small"}) as there:
                for table in ("runs", "run_tags"):
                    (count,) = there.execute(f"SELECT count(*) FROM {table}").fetchone() or (None,)  # type: ignore[call-overload]
                    assert count == len(acknowledged), table
        admin.execute("DROP DATABASE small WITH (FORCE)")
        admin.execute("DROP TABLESPACE small")
