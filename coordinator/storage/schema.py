"""Brings a database's schema to the newest version.

A new database is made by what tables.py says: the migrations lead to the same (tests/conformance/storage), and
going all their way takes longer than anything else at a coordinator's first start. Where there is nothing to
migrate, neither Alembic nor the migrations are imported.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from coordinator.foundation.errors import SchemaTooNew
from coordinator.storage.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
#: Alembic's own table, with the revision that the schema has.
_VERSION = "alembic_version"


def newest() -> str:
    """The last revision: files are named `NNNN_what.py`, and the number is the revision."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py")).partition("_")[0]


def bring_up_to_date(conn: Connection) -> None:
    """In the transaction of `conn`, which holds other migrations back. Raises SchemaTooNew."""
    there = set(inspect(conn).get_table_names())
    if _VERSION in there:
        if conn.execute(text(f"SELECT version_num FROM {_VERSION}")).scalars().all() == [newest()]:
            return
    elif not there & set(metadata.tables):
        metadata.create_all(conn, checkfirst=False)
        # as Alembic makes it
        conn.execute(
            text(
                f"CREATE TABLE {_VERSION} (version_num VARCHAR(32) NOT NULL, "
                f"CONSTRAINT {_VERSION}_pkc PRIMARY KEY (version_num))"
            )
        )
        conn.execute(text(f"INSERT INTO {_VERSION} VALUES (:newest)"), {"newest": newest()})
        return
    migrate(conn, "head")


def migrate(conn: Connection, revision: str) -> None:
    """Carries out the migrations up to `revision`, one after the other. Raises SchemaTooNew."""
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = conn
    script = ScriptDirectory.from_config(config)
    known = {each.revision for each in script.walk_revisions()}
    for found in MigrationContext.configure(conn).get_current_heads():
        if found not in known:
            raise SchemaTooNew(
                f"the database has schema {found}, and this coordinator knows schemas up to "
                f"{script.get_current_head()}: it was migrated by a later version. Install that version or a later "
                "one, or restore the backup that was made before the migration; nothing was changed"
            )
    command.upgrade(config, revision)
