"""The audit: who did what, from where, and what was refused. Written in the transaction of the change itself.

Nothing in it is a value: payloads, secrets, keys and tokens stay out; names are cut to a length.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, insert, select

from coordinator.access.keys import Caller
from coordinator.foundation import ids
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import audit, runs, waits

_ADD = Prepared(insert(audit))
_NAME, _TARGET, _ADDRESS, _DETAIL = 128, 256, 64, 1024
#: Refusals of one key that are noted in a minute; of those beyond it the next one says how many they were.
_REFUSALS, _MINUTE = 20, 60.0
_MOST_KEYS = 1024


@dataclass
class Act:
    """One request that changes something. Its first transaction that commits is noted; of `many`, each."""

    action: str
    address: str
    caller: Caller | None = None
    project: str | None = None
    target: str = ""
    many: bool = False
    #: The table of which `target` is a row, where that knows the project.
    table: Table | None = None
    #: SHA-256 of the token that is completed.
    token: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    done: bool = False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.done and not self.many:
            return function

        def noted(conn: Connection, now: float, *args: Any, **kwargs: Any) -> Any:
            # before: what is removed is not there afterwards
            known = self._known(conn)
            result = function(conn, now, *args, **kwargs)
            self._note(conn, now, known, result)
            return result

        return noted

    def committed(self) -> None:
        self.done = True

    def _known(self, conn: Connection) -> tuple[str | None, str]:
        if self.token is not None:
            query = select(runs.c.project, runs.c.id).join_from(waits, runs, waits.c.run_id == runs.c.id)
            row = conn.execute(query.where(waits.c.token_hash == self.token)).first()
            return (None, "") if row is None else (row.project, row.id)
        if self.project is None and self.table is not None:
            return conn.scalar(select(self.table.c.project).where(self.table.c.id == self.target)), self.target
        return self.project, self.target

    def _note(self, conn: Connection, now: float, known: tuple[str | None, str], result: Any) -> None:
        project, target = known
        detail = dict(self.detail)
        if isinstance(getattr(result, "runs", None), list):
            detail["runs"] = len(result.runs)
        if (row := _row(result)) is not None:
            project = project or getattr(row, "project", None)
            made = getattr(row, "id", None) or getattr(row, "name", None)
            if made is not None and made != target:
                if target:
                    detail.setdefault("of", target)
                target = made
            for name in ("task", "name", "role"):
                if isinstance(value := getattr(row, name, None), str) and value != target:
                    detail.setdefault(name, value)
        elif isinstance(result, str) and not target:
            target = result
        add(conn, now, self, True, project, target, detail)


def add(
    conn: Connection, now: float, act: Act, done: bool, project: str | None, target: str, detail: dict[str, Any]
) -> None:
    caller = act.caller
    text = json.dumps({name: _cut(value, _NAME) for name, value in detail.items()})
    conn.execute(
        _ADD,
        {
            "id": ids.new("aud"),
            "at": now,
            "action": _cut(act.action, _NAME),
            "done": done,
            "project": None if not project else _cut(project, _NAME),
            "key_id": None if caller is None else caller.id,
            "key_name": None if caller is None else _cut(caller.name, _NAME),
            "role": None if caller is None else caller.role,
            "address": _cut(act.address, _ADDRESS),
            "target": _cut(target, _TARGET),
            "detail": text if len(text) <= _DETAIL else "{}",
        },
    )


def refused(conn: Connection, now: float, act: Act, status: int, others: int) -> None:
    """A request that was not done. `others`: how many more of this key were not noted."""
    project = None if act.caller is None else act.caller.project
    detail = {"status": status, **({"others": others} if others else {})}
    add(conn, now, act, False, project or act.project, act.target, detail)


class Refusals:
    """How many refusals of a key are noted: a key that is refused all day fills no disk."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}

    def admit(self, key: str) -> int | None:
        """How many were passed over before this one; None where it is passed over itself."""
        now = monotonic()
        since, count = self._seen.get(key, (now, 0))
        over = max(0, count - _REFUSALS)
        if now - since >= _MINUTE:
            since, count = now, 0
        else:
            over = 0
        if len(self._seen) >= _MOST_KEYS and key not in self._seen:
            self._seen.pop(next(iter(self._seen)))
        self._seen[key] = (since, count + 1)
        return over if count < _REFUSALS else None


class Wanted(NamedTuple):
    project: str | None = None
    action: str | None = None
    key: str | None = None
    since: float | None = None
    refused: bool | None = None


def listing(
    conn: Connection, now: float, wanted: Wanted, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    """Newest first, and the cursor of the next page."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit + 1)
    if wanted.project is not None:
        query = query.where(audit.c.project == wanted.project)
    if wanted.action is not None:
        query = query.where(audit.c.action == wanted.action)
    if wanted.key is not None:
        query = query.where((audit.c.key_id == wanted.key) | (audit.c.key_name == wanted.key))
    if wanted.since is not None:
        query = query.where(audit.c.at >= wanted.since)
    if wanted.refused is not None:
        query = query.where(audit.c.done.is_(not wanted.refused))
    if cursor is not None:
        query = query.where(audit.c.id < cursor)
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    return rows, rows[-1].id if more else None


def _row(result: Any) -> Any:
    """What was changed or made, where the transaction gives its row."""
    first = result[0] if isinstance(result, tuple) and result and not hasattr(result, "_fields") else None
    if isinstance(result, Row):
        first = result[0] if result and isinstance(result[0], Row) else result
    named = [getattr(result, name, None) for name in ("run", "event", "row")]
    several = getattr(result, "runs", None)
    for found in (first, *named, *(several[:1] if isinstance(several, list | tuple) else ())):
        if isinstance(found, Row) or hasattr(found, "project"):
            return found
    return None


def _cut(value: Any, most: int) -> Any:
    if not isinstance(value, str):
        return value
    # neither a NUL nor half a surrogate pair is text that a database holds
    text = value[: most + 1].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"
