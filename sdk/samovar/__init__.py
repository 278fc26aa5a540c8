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

__version__ = "0.1.0"

TYPE_CHECKING = False  # of `typing`, which is imported by whoever needs it

if TYPE_CHECKING:
    from samovar.calling.async_client import AsyncClient, AsyncRunHandle
    from samovar.calling.client import Client, RunHandle
    from samovar.calling.items import Item
    from samovar.declare.challenges import Challenge
    from samovar.declare.cron import Cron
    from samovar.declare.events import Event
    from samovar.declare.queues import Queue
    from samovar.declare.retry import Retry
    from samovar.declare.webhooks import Webhook
    from samovar.errors import (
        Abort,
        ApiError,
        Canceled,
        CheckpointError,
        CoordinatorUnreachable,
        FileMissing,
        FileRefused,
        InvalidPayload,
        NonDeterministic,
        NotFound,
        NotInRun,
        NotSerializable,
        OptionError,
        RetryAfter,
        RunFailed,
        SamovarError,
        SecretMissing,
        Suspend,
        WaitTimeout,
    )
    from samovar.running.checkpoints import checkpoint
    from samovar.running.exits import on_exit
    from samovar.running.files import artifact
    from samovar.running.run import CurrentRun, current_run
    from samovar.running.secrets import secret
    from samovar.running.waits import wait
    from samovar.tasks import Task, task
    from samovar.values.file import File

__all__ = [
    "Abort",
    "ApiError",
    "AsyncClient",
    "AsyncRunHandle",
    "Canceled",
    "Challenge",
    "CheckpointError",
    "Client",
    "CoordinatorUnreachable",
    "Cron",
    "CurrentRun",
    "Event",
    "File",
    "FileMissing",
    "FileRefused",
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
    "SecretMissing",
    "Suspend",
    "Task",
    "WaitTimeout",
    "Webhook",
    "artifact",
    "checkpoint",
    "current_run",
    "on_exit",
    "secret",
    "task",
    "wait",
]

_HOMES = {
    "AsyncClient": "calling.async_client",
    "AsyncRunHandle": "calling.async_client",
    "Challenge": "declare.challenges",
    "Client": "calling.client",
    "Cron": "declare.cron",
    "CurrentRun": "running.run",
    "Event": "declare.events",
    "Item": "calling.items",
    "Queue": "declare.queues",
    "Retry": "declare.retry",
    "RunHandle": "calling.client",
    "Task": "tasks",
    "Webhook": "declare.webhooks",
    "File": "values.file",
    "artifact": "running.files",
    "checkpoint": "running.checkpoints",
    "current_run": "running.run",
    "on_exit": "running.exits",
    "secret": "running.secrets",
    "task": "tasks",
    "wait": "running.waits",
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
