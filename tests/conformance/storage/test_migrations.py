"""Migrations: a schema that was migrated is the one that tables.py says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from coordinator.attempts import checkpoints
from coordinator.deployments import deployments
from coordinator.foundation.errors import Conflict
from coordinator.line import queues
from coordinator.runs import views
from coordinator.storage import dialect, schema
from coordinator.storage.database import Database
from coordinator.storage.tables import metadata
from coordinator.wire import LogCounts
from tests.conformance.databases import fresh_database
from tests.conformance.store import Store, task_entry


def shape(conn: Connection) -> dict[str, Any]:
    """Everything of a schema that can be asked for, apart from the order it was made in."""
    found = inspect(conn)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return sorted((k, plain(v)) for k, v in value.items())
        return str(value)

    def by_name(items: list[Any]) -> list[str]:
        return sorted(str(plain(item)) for item in items)

    return {
        table: {
            "columns": by_name(found.get_columns(table)),
            "key": str(found.get_pk_constraint(table)),
            "foreign": by_name(found.get_foreign_keys(table)),
            "unique": by_name(found.get_unique_constraints(table)),
            "checks": by_name(found.get_check_constraints(table)),
            "indexes": by_name(found.get_indexes(table)),
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_nothing_is_left_to_migrate(store: Store) -> None:
    def differences(conn: Connection, now: float) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata))

    assert store.read(differences) == []


def test_built_fresh_equals_migrated_on_sqlite(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path / 'migrated.db'}", f"sqlite:///{tmp_path / 'fresh.db'}")


def test_built_fresh_equals_migrated_on_postgresql(postgres: str) -> None:
    with fresh_database(postgres) as migrated, fresh_database(postgres) as fresh:
        check(migrated, fresh)


def check(migrated_url: str, fresh_url: str) -> None:
    """What went the way of all migrations is as what was made at once, and a second start changes neither."""
    found = []
    for url, first in ((migrated_url, all_migrations), (fresh_url, None)):
        database = Database(url)
        if first is not None:
            database.write_now(first)
        for _ in range(2):
            database.migrate()
            found.append(database.read_now(lambda conn, now: (shape(conn), version(conn))))
        database.close()
    migrated, *others = found
    assert all(other == migrated for other in others)
    assert set(migrated[0]) == set(metadata.tables)


def all_migrations(conn: Connection, now: float) -> None:
    schema.migrate(conn, "head")


def version(conn: Connection) -> list[tuple[Any, ...]]:
    columns = [
        sorted((key, str(value)) for key, value in c.items()) for c in inspect(conn).get_columns("alembic_version")
    ]
    key = inspect(conn).get_pk_constraint("alembic_version")
    return [(columns, key), *map(tuple, conn.execute(text("SELECT * FROM alembic_version")))]


def test_the_newest_revision_is_the_last_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert schema.newest() == ScriptDirectory.from_config(config).get_current_head()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_coordinators_that_start_at_once_both_come_up(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def start_both(url: str) -> None:
        databases = [Database(url) for _ in range(3)]
        try:
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(Database.migrate, databases))
        finally:
            for database in databases:
                database.close()

    if kind == "sqlite":
        start_both(f"sqlite:///{tmp_path / 'c.db'}")
    else:
        with fresh_database(request.getfixturevalue("postgres")) as url:
            start_both(url)


def test_all_who_open_a_new_sqlite_file_at_once_get_it(tmp_path: Path) -> None:
    """One of them changes its mode to WAL, which SQLite refuses the others without waiting."""
    at_once = Barrier(6)

    def open_it(engine: Engine) -> None:
        at_once.wait(30)
        with engine.begin() as conn:
            conn.exec_driver_sql("SELECT 1")

    # one round in ten met it
    for number in range(60):
        writers = [dialect.engines(f"sqlite:///{tmp_path / f'{number}.db'}")[1] for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(open_it, writers))
        for engine in writers:
            engine.dispose()


def at_first(conn: Connection, now: float) -> None:
    """A database of the first schema with a deployment, and a run in each state that matters."""
    schema.migrate(conn, "0001")
    conn.execute(text("INSERT INTO projects (name, current_deployment, created_at) VALUES ('orders', 'dep', 1)"))
    conn.execute(
        text(
            "INSERT INTO deployments (id, project, version, day, number, status, promote, source_blob, image, "
            "build_token, build_tries, created_at) VALUES (:id, 'orders', :version, :day, :number, :status, "
            ":yes, '', 'image', 1, 1, 1)"
        ),
        [
            {"id": id, "version": f"{day}.{number}", "day": day, "number": number, "status": status, "yes": True}
            for id, day, number, status in [
                ("before", 20191231, 2, "ready"),
                ("failed", 20191231, 3, "failed"),
                ("dep", 20200101, 1, "ready"),
                ("later", 20200101, 2, "ready"),
            ]
        ],
    )
    entry = task_entry("greet")
    conn.execute(
        text(
            "INSERT INTO tasks (deployment_id, task, module, name, schema, options) "
            "VALUES ('dep', 'greet', 'm', 'greet', :schema, :options)"
        ),
        {"schema": json.dumps(entry["schema"]), "options": json.dumps(entry["options"])},
    )
    for n, (status, key) in enumerate([("queued", None), ("queued", "k"), ("delayed", None), ("completed", None)]):
        conn.execute(
            text(
                "INSERT INTO runs (id, project, task, deployment_id, version, status, payload, tags, priority, "
                "concurrency_key, fingerprint, memory, created_at, queued_at, order_at, due_at, attempts, "
                "failures, ooms, losses, trace_id) VALUES (:id, 'orders', 'greet', 'dep', '20200101.1', :status, "
                "'{}', '[]', 0, :key, '', 536870912, 1, 1, :order_at, :due, 0, 0, 0, 0, '')"
            ),
            {
                "id": f"run_{n}",
                "status": status,
                "key": key,
                "order_at": 10.0 - n,
                "due": 20.0 if status == "delayed" else None,
            },
        )

    conn.execute(
        text(
            "INSERT INTO attempts (id, run_id, number, token, runner, status, memory, claimed_at, lease_until, "
            "extended) VALUES ('att', 'run_3', 1, 1, 'r1', 'completed', 1, 1, 1, 0)"
        )
    )
    conn.execute(
        text(
            "INSERT INTO checkpoints (run_id, key, position, value, size, attempt_id, attempt, created_at) "
            "VALUES ('run_3', 'k', 1, '7', 1, 'att', 1, 1)"
        )
    )
    for seq, level in enumerate(["info", "info", "loud", "warning", "error", "critical"]):
        conn.execute(
            text(
                "INSERT INTO log_lines (run_id, attempt, seq, at, level, stream, message) "
                "VALUES ('run_3', 1, :seq, 1, :level, 'stdout', 'x')"
            ),
            {"seq": seq, "level": level},
        )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_runs_of_the_first_schema_are_claimed_after_the_migration(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'c.db'}"
        if kind == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))
        store = Store(url)
        stack.callback(store.database.close)
        store.write(at_first)
        store.database.migrate()
        assert store.unlisted() == []
        assert [store.claim_one().run.id for _ in range(2)] == ["run_1", "run_0"]
        store.sweep()
        assert store.claim_one().run.id == "run_2"
        (limits,) = [limits for limits, _, _ in store.read(queues.listing)]
        assert (limits.name, limits.limited) == ("task/greet", False)
        assert store.trigger().queue == "task/greet"
        # what was ready before the current one may be gone back to
        store.deploy()
        assert [store.write(deployments.rollback, "orders") for _ in range(2)] == ["dep", "before"]
        with pytest.raises(Conflict):
            store.write(deployments.rollback, "orders")
        # a table that was built anew has kept its rows, and what refers to them
        assert [a.status for a in store.attempts("run_3")] == ["completed"]
        lines = LogCounts(debug=0, info=3, warning=1, error=2)
        assert [views.log_counts(row) for row in (*store.attempts("run_3"), store.run("run_3"))] == [lines, lines]
        rows, _ = store.read(checkpoints.listing, "run_3")
        assert [(row.key, row.attempt_id) for row in rows] == [("k", "att")]
