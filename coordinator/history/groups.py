"""Errors in groups: all that have one fingerprint in a project are one row, however many there are.

Counted are attempts that ended so, and runs that ended without one; `runs` are those that came to their end by it.
A cancel is no error. What was resolved is open again as soon as it happens in a later version, or in the same
version after it was resolved; runs of earlier versions may go on failing as they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.history import versions
from coordinator.storage import dialect
from coordinator.storage.tables import errors
from coordinator.storage.values import decode, encode_small

#: Groups of one project; what is beyond them is one group more.
MOST_GROUPS = 1000
OTHER = "_other"
#: Tasks and versions of one group that are named: those it was last seen in, and the latest.
MOST_NAMED = 20
#: Hours that are counted each by themselves.
SPARK = 24

_HOUR = 3600
_KEY = ("project", "fingerprint")


@dataclass
class Group:
    """A row of `errors`; see there."""

    error_type: str
    title: str
    first_seen: float
    last_seen: float
    last_run: str
    last_version: str
    count: int = 0
    runs: int = 0
    tasks: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    #: Hour (of the epoch) → how often.
    spark: dict[int, int] = field(default_factory=dict)
    resolved_at: float | None = None
    resolved_version: str | None = None
    reopened_at: float | None = None
    muted_until: float | None = None

    def fold(self, fact: Row[Any]) -> None:
        self.count += 1
        self.runs += fact.status is not None
        self.first_seen = min(self.first_seen, fact.at)
        if fact.at >= self.last_seen:
            self.last_seen, self.last_run, self.last_version = fact.at, fact.run_id, fact.version
            self.error_type, self.title = fact.error_type, fact.title
        if fact.task not in self.tasks[:1]:
            self.tasks = [fact.task, *(task for task in self.tasks if task != fact.task)][:MOST_NAMED]
        if fact.version not in self.versions:
            self.versions = sorted([*self.versions, fact.version], key=versions.order, reverse=True)[:MOST_NAMED]
        hour = int(fact.at // _HOUR)
        self.spark[hour] = self.spark.get(hour, 0) + 1
        if self.resolved_at is not None and self._returns(fact):
            self.resolved_at, self.reopened_at = None, fact.at

    def _returns(self, fact: Row[Any]) -> bool:
        """Whether it was not resolved after all."""
        assert self.resolved_at is not None
        if self.resolved_version is None or fact.version == self.resolved_version:
            return bool(fact.at > self.resolved_at)
        return versions.order(fact.version) > versions.order(self.resolved_version)

    def columns(self) -> dict[str, Any]:
        newest = max(self.spark, default=0)
        spark = {hour: met for hour, met in self.spark.items() if hour > newest - SPARK}
        lists = {name: encode_small(getattr(self, name)) for name in ("tasks", "versions")}
        return {**vars(self), **lists, "spark": encode_small(spark)}


def of_row(row: Row[Any]) -> Group:
    values = {name: value for name, value in row._mapping.items() if name not in _KEY}
    spark = {int(hour): met for hour, met in decode(row.spark).items()}
    return Group(**{**values, "tasks": decode(row.tasks), "versions": decode(row.versions), "spark": spark})


_FOUND = (
    select(errors)
    .where(errors.c.project == bindparam("of"), errors.c.fingerprint.in_(bindparam("names", expanding=True)))
    .with_for_update()
)
_KNOWN = select(func.count()).select_from(errors).where(errors.c.project == bindparam("of"))


def fold(conn: Connection, facts: Sequence[Row[Any]]) -> None:
    """Counts those of `facts` that are errors; whoever calls it is the only one who does."""
    by_project: dict[str, list[Row[Any]]] = {}
    for fact in facts:
        if fact.fingerprint is not None and fact.reason != "canceled":
            by_project.setdefault(fact.project, []).append(fact)
    rows = []
    for project, found in sorted(by_project.items()):
        groups = _stored(conn, project, {fact.fingerprint for fact in found})
        room = None
        for fact in found:
            name = fact.fingerprint
            if name not in groups:
                if room is None:
                    room = MOST_GROUPS - int(conn.scalar(_KNOWN, {"of": project}) or 0)
                if room <= 0:
                    name = OTHER
                    groups |= {} if name in groups else _stored(conn, project, {name})
                else:
                    room -= 1
            groups.setdefault(name, _new(fact)).fold(fact)
        rows += [
            {"project": project, "fingerprint": name, **group.columns()} for name, group in sorted(groups.items())
        ]
    if rows:
        conn.execute(_keep(conn.dialect.name), rows)


def _new(fact: Row[Any]) -> Group:
    return Group(fact.error_type, fact.title, fact.at, fact.at, fact.run_id, fact.version)


def _stored(conn: Connection, project: str, names: set[str]) -> dict[str, Group]:
    given = {"of": project, "names": sorted(names)}
    return {row.fingerprint: of_row(row) for row in conn.execute(_FOUND, given)}


@cache
def _keep(dialect_name: str) -> sqlite.Insert | postgresql.Insert:
    adding = dialect.insert(dialect_name, errors)
    changed = {column.name: adding.excluded[column.name] for column in errors.columns if column.name not in _KEY}
    return adding.on_conflict_do_update(index_elements=list(_KEY), set_=changed)
