"""Which of a run's lines a request asks for: the same parameters for pages, streams and downloads."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Query

from coordinator.runs.log_search import Wanted

Level = Literal["debug", "info", "warning", "error", "critical"]
Stream = Literal["stdout", "stderr", "logging", "samovar"]


# async, or FastAPI would take it to a thread and back for every request
async def _wanted(
    level: Annotated[Level | None, Query(description="Only lines of this level or a higher one")] = None,
    text: Annotated[
        str | None, Query(max_length=1000, description="Only lines with this in their message, in whatever case")
    ] = None,
    attempt: Annotated[int | None, Query(ge=1, le=10**9, description="Only lines of this attempt")] = None,
    stream: Annotated[Stream | None, Query(description="Only lines of this stream")] = None,
    logger: Annotated[
        str | None, Query(max_length=512, description="Only lines by this logger, or one below it")
    ] = None,
) -> Wanted:
    return Wanted(level, text or None, attempt, stream, logger or None)


#: A parameter of this type is given what the request's query asks for.
Filtered = Annotated[Wanted, Depends(_wanted)]
