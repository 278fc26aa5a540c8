"""Files, and the runs that are given them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, String, Table, text

from coordinator.storage.tables.base import metadata, partial

_OF_RUN = "run_id IS NOT NULL AND finished_at IS NOT NULL"

files = Table(
    "files",
    metadata,
    Column("id", String(40), primary_key=True),
    #: Whose it is; null: uploaded by somebody who sees every project, for any of them.
    Column("project", String),
    #: The run that has made it, as an artifact; null for one that was uploaded. A run's files go with it.
    Column("run_id", String(40), ForeignKey("runs.id")),
    Column("attempt_id", String(40)),
    Column("name", String(255), nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("size", BigInteger, nullable=False),
    #: Hexadecimal; as it was announced, and null where it was not, until all of it is there.
    Column("sha256", String(64)),
    #: Null until all of it is there.
    Column("content_blob", String(64)),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    #: Of an artifact that is there: a later one of the same name takes its place.
    Index(
        "uq_files_artifact",
        "run_id",
        "name",
        unique=True,
        sqlite_where=text(_OF_RUN),
        postgresql_where=text(_OF_RUN),
    ),
    partial("ix_files_uploaded", "created_at", where="run_id IS NULL"),
    partial("ix_files_unfinished", "created_at", where="finished_at IS NULL"),
    Index("ix_files_project", "project", "run_id"),
    partial("ix_files_content_blob", "content_blob", where="content_blob IS NOT NULL"),
)

run_files = Table(
    "run_files",
    metadata,
    #: What a run was given by its payload: it stays for as long as the run does.
    Column("run_id", String(40), ForeignKey("runs.id"), primary_key=True),
    Column("file_id", String(40), ForeignKey("files.id"), primary_key=True),
    Index("ix_run_files_file_id", "file_id"),
)
