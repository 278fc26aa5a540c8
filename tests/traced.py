"""What holds for the trace of any run, whatever its history."""

from __future__ import annotations

from coordinator.wire import Span, Trace

#: Milliseconds: a sum of a dozen rounded figures.
_ROUNDED = 0.1


def check(trace: Trace) -> dict[str, float]:
    """Fails where the ledger does not add up, or a span has no parent or lies outside of it; the ledger's parts."""
    parts = trace.ledger.model_dump(exclude={"total_ms"})
    assert all(value >= 0 for value in parts.values()), parts
    assert abs(sum(parts.values()) - trace.ledger.total_ms) < _ROUNDED, (parts, trace.ledger.total_ms)
    root, *others = trace.spans
    assert (root.kind, root.parent, root.begin_ms, root.end_ms) == ("run", None, 0, trace.ledger.total_ms)
    seen: dict[str, Span] = {root.id: root}
    for span in others:
        assert span.id not in seen, f"twice: {span}"
        assert span.parent in seen, f"before its parent, or without one: {span}"
        within = seen[span.parent]
        assert within.begin_ms <= span.begin_ms <= span.end_ms <= within.end_ms, (within, span)
        assert span.began_at <= (span.ended_at or "9"), span
        # what is open has no end before its parent's
        assert span.ended_at is not None or span.end_ms == within.end_ms
        seen[span.id] = span
    return {name.removesuffix("_ms"): value for name, value in parts.items() if value}
