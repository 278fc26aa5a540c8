"""What the caller of the request in progress sees: hints name nothing else."""

from __future__ import annotations

from contextvars import ContextVar

#: The one project that is seen; None for all. A request sets it once it is known who asks.
project: ContextVar[str | None] = ContextVar("sight", default=None)


def sees(name: str) -> bool:
    """Whether what belongs to the project `name` ("" for every project) may be named to the caller."""
    seen = project.get()
    return seen is None or name in ("", seen)
