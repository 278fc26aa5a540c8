"""The runner's own log: lines for people on a terminal, JSON lines anywhere else, on standard error."""

from __future__ import annotations

import sys

import structlog


def configure() -> None:
    """To be called once, before anything logs."""
    people = sys.stderr.isatty()
    # plain: the renderer's own tracebacks show local variables, and with them keys and secrets
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([console] if people else [structlog.processors.format_exc_info]),
            *([] if people else [structlog.processors.JSONRenderer()]),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
