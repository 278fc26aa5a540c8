"""The sidecar's own log: JSON lines on standard error, which `samovar up` shows to people."""

from __future__ import annotations

import sys

import structlog


def configure() -> None:
    """To be called once, before anything logs."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            # on a terminal too: JSON writes out what would act on it, in texts of tasks and of the engine
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
