"""Which runs are meant: the conditions of a list, from a request or as a bulk keeps them, and as SQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, or_

from coordinator.foundation.times import iso
from coordinator.storage.dialect import json_text
from coordinator.storage.tables import runs
from coordinator.wire import RunFilter


class Filter(NamedTuple):
    """What `GET /runs` may ask for; `since` and `ended` are seconds since the epoch, `longer` seconds, `cursor` a
    run's id.
    """

    statuses: tuple[str, ...] = ()
    task: str | None = None
    project: str | None = None
    parent: str | None = None
    tags: tuple[str, ...] = ()
    since: float | None = None
    cursor: str | None = None
    limit: int = 50
    dead_letter: bool = False
    names: tuple[str, ...] = ()
    #: A fingerprint.
    error: str | None = None
    # those for which there is no index (`looked_for`)
    version: str | None = None
    #: What triggered it: "api", "schedule", "webhook" …
    origin: str | None = None
    #: How its latest attempt was started: "warm", "cold" …
    start: str | None = None
    #: That it ran for longer, or runs for longer by now.
    longer: float | None = None
    ended: float | None = None
    #: In its id, its keys, or the type and message of its error, in whichever case.
    text: str | None = None

    @property
    def is_looked_for(self) -> bool:
        """Whether runs have to be looked at to know which fit."""
        return any(value is not None for value in self[self._fields.index("version") :])


def meant(wanted: RunFilter, moment: Callable[[str, str], float]) -> Filter:
    """`moment` reads a time, and is told in which field it stands."""

    def at(field: str, text: str | None) -> float | None:
        return None if text is None else moment(text, field)

    return Filter(
        statuses=tuple(dict.fromkeys(wanted.status)),
        task=wanted.task,
        project=wanted.project,
        parent=wanted.parent,
        tags=tuple(wanted.tags),
        since=at("since", wanted.since),
        dead_letter=wanted.dead_letter,
        names=tuple(wanted.runs),
        error=wanted.error,
        version=wanted.version,
        origin=wanted.origin,
        start=wanted.start,
        longer=wanted.longer,
        ended=at("ended", wanted.ended),
        text=wanted.text,
    )


def stored(wanted: Filter) -> dict[str, Any]:
    """As RunFilter has it, with times and not how long ago."""
    given = {
        "runs": list(wanted.names),
        "status": list(wanted.statuses),
        "task": wanted.task,
        "project": wanted.project,
        "parent": wanted.parent,
        "tags": list(wanted.tags),
        "since": None if wanted.since is None else iso(wanted.since),
        "dead_letter": wanted.dead_letter,
        "error": wanted.error,
        "version": wanted.version,
        "origin": wanted.origin,
        "start": wanted.start,
        "longer": wanted.longer,
        "ended": None if wanted.ended is None else iso(wanted.ended),
        "text": wanted.text,
    }
    # an empty text and no seconds are conditions: without them more would be meant than was asked for
    return {
        name: value for name, value in given.items() if value is not None and value is not False and value != []
    }


def looked_for(dialect_name: str, now: float, wanted: Filter) -> list[ColumnElement[bool]]:
    """The conditions for which there is no index."""
    equal = {"version": wanted.version, "origin": wanted.origin, "start": wanted.start}
    found: list[ColumnElement[bool]] = [runs.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.longer is not None:
        still = and_(runs.c.status == "running", runs.c.started_at < now - wanted.longer)
        found.append(or_(runs.c.run_ms > 1000 * wanted.longer, still))
    if wanted.ended is not None:
        found.append(runs.c.finished_at >= wanted.ended)
    if wanted.text is not None:
        found.append(_has(dialect_name, wanted.text))
    return found


def _has(dialect_name: str, text: str) -> ColumnElement[bool]:
    # a text of JSON has some characters written otherwise, and is looked at before it is read
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    of_error = or_(
        runs.c.error_type.icontains(text, autoescape=True),
        and_(
            runs.c.error.icontains(written, autoescape=True),
            json_text(dialect_name, runs.c.error, "message").icontains(text, autoescape=True),
        ),
    )
    return or_(
        # (which has no capitals: to make small letters of each would be most of what a search takes)
        runs.c.id.contains(text.lower(), autoescape=True),
        runs.c.idempotency_key.icontains(text, autoescape=True),
        runs.c.concurrency_key.icontains(text, autoescape=True),
        and_(runs.c.error.is_not(None), of_error),
    )
