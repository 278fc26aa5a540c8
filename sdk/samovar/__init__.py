"""Samovar: run untrusted or heavy Python tasks, each in its own container, with durable checkpoints.

    from samovar import Retry, checkpoint, task

    @task(retry=Retry(max_attempts=3), memory="512m")
    def process_order(order_id: str) -> dict:
        order = checkpoint("fetch", fetch, order_id)
        receipt = checkpoint("charge", charge, order)
        return {"receipt": receipt["id"]}

Standard library only. Importing this module costs next to nothing, because it is in the memory of every
container: each name below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from samovar.async_client import AsyncClient, AsyncRunHandle
    from samovar.checkpoints import checkpoint
    from samovar.client import Client, RunHandle
    from samovar.context import CurrentRun, current_run
    from samovar.cron import Cron
    from samovar.errors import (
        Abort,
        ApiError,
        Canceled,
        CheckpointError,
        CoordinatorUnreachable,
        InvalidPayload,
        NonDeterministic,
        NotFound,
        NotInRun,
        NotSerializable,
        OptionError,
        RetryAfter,
        RunFailed,
        SamovarError,
        Suspend,
        WaitTimeout,
    )
    from samovar.events import Event
    from samovar.items import Item
    from samovar.options import Retry
    from samovar.queues import Queue
    from samovar.tasks import Task, task
    from samovar.waits import wait
    from samovar.webhooks import Webhook

__all__ = [
    "Abort",
    "ApiError",
    "AsyncClient",
    "AsyncRunHandle",
    "Canceled",
    "CheckpointError",
    "Client",
    "CoordinatorUnreachable",
    "Cron",
    "CurrentRun",
    "Event",
    "InvalidPayload",
    "Item",
    "NonDeterministic",
    "NotFound",
    "NotInRun",
    "NotSerializable",
    "OptionError",
    "Queue",
    "Retry",
    "RetryAfter",
    "RunFailed",
    "RunHandle",
    "SamovarError",
    "Suspend",
    "Task",
    "WaitTimeout",
    "Webhook",
    "checkpoint",
    "current_run",
    "task",
    "wait",
]

_HOMES = {
    "AsyncClient": "async_client",
    "AsyncRunHandle": "async_client",
    "Client": "client",
    "Cron": "cron",
    "CurrentRun": "context",
    "Event": "events",
    "Item": "items",
    "Queue": "queues",
    "Retry": "options",
    "RunHandle": "client",
    "Task": "tasks",
    "Webhook": "webhooks",
    "checkpoint": "checkpoints",
    "current_run": "context",
    "task": "tasks",
    "wait": "waits",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'samovar' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"samovar.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
