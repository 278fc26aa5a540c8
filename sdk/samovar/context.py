"""The run that code is in, and the store that a unit test gives to `task.local_with`."""

from __future__ import annotations

from samovar.running.local import MemoryStore
from samovar.running.run import CurrentRun, current_run

__all__ = ["CurrentRun", "MemoryStore", "current_run"]
