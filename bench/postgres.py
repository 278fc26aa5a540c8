"""A PostgreSQL of the bench's own, whose commits are on the disk when they are answered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.conformance.databases import fresh_database, postgres_binaries, server


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """The URL of a cluster with the defaults that PostgreSQL comes with; gone at the end."""
    binaries = postgres_binaries()
    if binaries is None:
        raise SystemExit(
            "PostgreSQL is not installed: this benchmark needs initdb and pg_ctl (apt install postgresql)"
        )
    with server(binaries, durable=True) as made:
        yield made.url


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The URL of an empty database in a cluster of its own."""
    with cluster() as url, fresh_database(url) as made:
        yield made
