"""Who may call, and what tasks may know: keys, the sessions they begin, and secrets."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Double, Index, LargeBinary, String, Table, Text

from coordinator.storage.tables.base import metadata

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    #: SHA-256 of the key, hexadecimal: the keys are random, so a slow hash would guard nothing.
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    #: The one it sees; null for all.
    Column("project", String),
    #: The one runner that it may act as; '*' for every runner that has no key of its own; null until its first use.
    Column("runner", String),
    CheckConstraint("role IN ('admin', 'runner', 'trigger', 'read')", name="role"),
    Index("ix_keys_runner", "runner"),
)

# Who is signed in to the dashboard. What a session may do is what its key may, at every request.
sessions = Table(
    "sessions",
    metadata,
    #: SHA-256 of the cookie, hexadecimal.
    Column("hash", String(64), primary_key=True),
    # no foreign key: a session is found with its key, or not at all
    Column("key_id", String(40), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("ix_sessions_expires", "expires_at"),
)

# Links that sign in once: their row goes with their use.
sign_in_links = Table(
    "sign_in_links",
    metadata,
    #: SHA-256 of the link's secret, hexadecimal.
    Column("hash", String(64), primary_key=True),
    Column("key_id", String(40), nullable=False),
    #: The page that it leads to.
    Column("path", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("ix_sign_in_links_expires", "expires_at"),
)

# Addresses of the dashboard's lists under names of their key's, which takes them with it.
saved_views = Table(
    "saved_views",
    metadata,
    Column("key_id", String(40), primary_key=True),
    Column("name", String(80), primary_key=True),
    #: A path of the dashboard's with its query.
    Column("address", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

host_tokens = Table(
    "host_tokens",
    metadata,
    Column("id", String(40), primary_key=True),
    #: SHA-256 of the token, hexadecimal.
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    #: When it was used, and by which runner.
    Column("used_at", Double),
    Column("runner", String),
)

audit = Table(
    "audit",
    metadata,
    #: Rises with time.
    Column("id", String(40), primary_key=True),
    Column("at", Double, nullable=False),
    Column("action", String, nullable=False),
    #: Whether it was done; else it was refused.
    Column("done", Boolean, nullable=False),
    #: What it was about: null for the whole install.
    Column("project", String),
    #: Whose key; null where none is needed.
    Column("key_id", String(40)),
    Column("key_name", String),
    Column("role", String),
    Column("address", String, nullable=False),
    Column("target", String, nullable=False),
    #: JSON of a few names.
    Column("detail", Text, nullable=False),
    Index("ix_audit_project", "project", "id"),
)

secrets = Table(
    "secrets",
    metadata,
    #: Empty: every project's.
    Column("project", String, primary_key=True),
    Column("name", String, primary_key=True),
    #: Which master key sealed it; the value is nowhere.
    Column("key", String(16), nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)
