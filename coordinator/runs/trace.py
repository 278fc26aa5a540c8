"""The spans of one run, made of rows that are read already (`history`): a pure function of them and of the time.

A span never lies outside of its parent: what does, as a child that goes on after its run, is cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2s
from typing import Any, NamedTuple

from coordinator import wire
from coordinator.foundation.limits import TRACE_ATTEMPTS
from coordinator.line import holds
from coordinator.runs import timeline, views
from coordinator.runs.timeline import Laid, Piece
from coordinator.wire import FINAL

#: What is in an attempt, and what is beside it; the rest (`waiting`, `other`) is no span.
_PHASES = frozenset({"placed", "started", "imported", "handed_over", "ran", "reported"})
_BESIDE = frozenset({"delayed", "queued", "back_off"})
_NAMES = {"handed_over": "handed over", "back_off": "back-off"}


class History(NamedTuple):
    """Rows of one run, oldest first: its latest attempts (more than are shown, for the ledger), checkpoints and
    waits without values, children; and how many of each are left out.
    """

    run: Any
    attempts: Sequence[Any]
    checkpoints: Sequence[Any] = ()
    waits: Sequence[Any] = ()
    children: Sequence[Any] = ()
    left_out: wire.LeftOut | None = None
    #: What held it in line: spans (`reason`, `began_at`, `until`) of its scopes.
    holds: Sequence[Any] = ()


class _Bounds(NamedTuple):
    """A span that others lie in. Seconds since the epoch."""

    id: str
    begin: float
    end: float


def span_id(kind: str, *row: object) -> str:
    """16 hexadecimal digits, as W3C trace context wants them: the same for the same row, whenever they are made."""
    return blake2s("\0".join([kind, *map(str, row)]).encode("utf-8", "replace"), digest_size=8).hexdigest()


def build(history: History, now: float) -> wire.Trace:
    """The whole trace of a run, as far as its history goes."""
    run = history.run
    laid = timeline.lay(run, history.attempts, now)
    begin = run.created_at
    end = max([begin, now if run.finished_at is None else run.finished_at])
    spent = timeline.ledger(laid.pieces)
    return wire.Trace(
        run=run.id,
        task=run.task,
        project=run.project,
        status=run.status,
        trace_id=run.trace_id,
        now=views.iso(now),
        ledger=wire.Ledger(
            total_ms=round(1000 * (end - begin), 3),
            **{f"{kind}_ms": round(value, 3) for kind, value in spent.items()},
        ),
        queued_by=_queued_by(laid, history.holds),
        spans=_Tree(history, laid, begin, end).spans,
        left_out=history.left_out or wire.LeftOut(),
    )


def _queued_by(laid: Laid, spans: Sequence[Any]) -> list[wire.HeldInLine]:
    waited = [(piece.begin, piece.end) for piece in laid.pieces if piece.kind == "queued"]
    return [
        wire.HeldInLine(reason=part.reason, ms=round(1000 * part.seconds, 3)) for part in holds.split(waited, spans)
    ]


class _Tree:
    """The spans so far, parents before what is in them."""

    def __init__(self, history: History, laid: Laid, begin: float, end: float) -> None:
        self.spans: list[wire.Span] = []
        self._begin = begin
        run = history.run
        root = _Bounds(span_id("run", run.id), begin, end)
        self._add(root, None, "run", run.task, status=run.status, open=run.finished_at is None)
        below = self._attempts(history, laid, root)
        self._checkpoints(history.checkpoints, below)
        for row in history.waits:
            self._wait(row, root)
        for row in history.children:
            self._child(row, root)
        # (stable: what was added first comes first, so a parent before what begins with it)
        self.spans.sort(key=lambda span: span.begin_ms)

    def _add(
        self,
        at: _Bounds,
        within: _Bounds | None,
        kind: wire.SpanKind,
        name: str,
        *,
        open: bool = False,
        **more: Any,
    ) -> _Bounds:
        """`open`: it lasts as long as its parent does; for the run itself, it has not ended."""
        begin, end = at.begin, at.end
        if within is not None:
            begin = min(max(begin, within.begin), within.end)
            end = within.end if open else min(max(end, begin), within.end)
        self.spans.append(
            wire.Span(
                id=at.id,
                parent=None if within is None else within.id,
                kind=kind,
                name=name,
                began_at=views.iso(begin),
                ended_at=None if open else views.iso(end),
                begin_ms=round(1000 * (begin - self._begin), 3),
                end_ms=round(1000 * (end - self._begin), 3),
                **more,
            )
        )
        return _Bounds(at.id, begin, end)

    def _attempts(self, history: History, laid: Laid, root: _Bounds) -> dict[str, _Bounds]:
        """The attempts that are shown, with what leads to them and what is in them; where their checkpoints go."""
        run, attempts = history.run, history.attempts
        of: dict[int, list[Piece]] = {}
        for piece in laid.pieces:
            of.setdefault(piece.attempt, []).append(piece)
        found: dict[str, _Bounds] = {}
        for n in range(max(0, len(attempts) - TRACE_ATTEMPTS), len(attempts)):
            attempt, mine = attempts[n], of.get(n, [])
            number = attempt.number
            self._beside(mine, root, run.id, number)
            is_open = attempt.finished_at is None and run.finished_at is None
            whole = self._add(
                _Bounds(span_id("attempt", attempt.id), *laid.attempts[n]),
                root,
                "attempt",
                f"attempt {number}",
                open=is_open,
                status=attempt.status,
                attempt=number,
                of_attempt=_of_attempt(attempt),
            )
            found[attempt.id] = whole
            for piece in mine:
                if piece.kind in _PHASES:
                    last = is_open and piece is mine[-1]
                    inner = self._piece(piece, whole, attempt.id, number, open=last)
                    if piece.kind == "ran":
                        found[attempt.id] = inner
        self._beside(of.get(len(attempts), []), root, run.id, run.attempts + 1, open=run.status not in FINAL)
        return found

    def _beside(self, pieces: list[Piece], root: _Bounds, run: str, number: int, *, open: bool = False) -> None:
        """What leads to an attempt; `open`: it has not come yet."""
        for piece in pieces:
            if piece.kind in _BESIDE:
                self._piece(piece, root, f"{run} {number}", number, open=open and piece is pieces[-1])

    def _piece(self, piece: Piece, within: _Bounds, row: str, number: int, *, open: bool = False) -> _Bounds:
        kind: Any = piece.kind
        at = _Bounds(span_id(kind, row), piece.begin, piece.end)
        return self._add(at, within, kind, _NAMES.get(kind, kind), open=open, attempt=number)

    def _checkpoints(self, rows: Sequence[Any], below: dict[str, _Bounds]) -> None:
        for row in rows:
            within = below.get(row.attempt_id)
            if within is None:
                continue  # of an attempt that is not shown, or of the run that this one replays
            begun = row.created_at if row.begun_at is None else row.begun_at
            at = _Bounds(span_id("checkpoint", row.run_id, row.key), begun, row.created_at)
            self._add(at, within, "checkpoint", row.key, attempt=row.attempt, size_bytes=row.size)

    def _wait(self, row: Any, root: _Bounds) -> None:
        pending = row.status == "pending"
        end = root.end if row.resolved_at is None else row.resolved_at
        at = _Bounds(span_id("wait", row.run_id, row.key), row.created_at, end)
        until = views.iso(row.due_at) if pending else None
        what = wire.SpanWait(kind=row.kind, about=row.name, until=until)
        self._add(at, root, "wait", row.key, open=pending, status=row.status, attempt=row.attempt, of_wait=what)

    def _child(self, row: Any, root: _Bounds) -> None:
        end = root.end if row.finished_at is None else row.finished_at
        at = _Bounds(span_id("run", row.id), row.created_at, end)
        what = wire.SpanChild(
            id=row.id,
            key=row.parent_key,
            detached=bool(row.detached),
            created_at=views.iso(row.created_at),
            started_at=views.iso(row.started_at),
            finished_at=views.iso(row.finished_at),
        )
        self._add(at, root, "child", row.task, open=row.finished_at is None, status=row.status, of_child=what)


def _of_attempt(row: Any) -> wire.SpanAttempt:
    return wire.SpanAttempt(
        id=row.id,
        runner=row.runner,
        start=row.start,
        cause=row.cause,
        evicted_by=views.whose(row.evicted_by_project, row.evicted_by_task),
        container=row.container,
        container_run=row.container_run,
        exit_code=row.exit_code,
    )
