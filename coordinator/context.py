"""What every request of one coordinator shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from coordinator.blobs import Blobs
from coordinator.callers import Callers
from coordinator.database import Database
from coordinator.keys import AttemptSecrets
from coordinator.payloads import Payloads
from coordinator.seats import Seats
from coordinator.settings import Settings
from coordinator.values import Values
from coordinator.vault import Vault
from coordinator.waking import Waking


@dataclass(frozen=True)
class Coordinator:
    settings: Settings
    database: Database
    blobs: Blobs
    values: Values
    secrets: AttemptSecrets
    payloads: Payloads
    waking: Waking
    vault: Vault
    seats: Seats
    callers: Callers
    #: By project and path, what webhooks have refused.
    refusals: dict[tuple[str, str], Any] = field(default_factory=dict)


# async, or FastAPI would take it to a thread and back for every request
async def _of(request: Request) -> Coordinator:
    coordinator = request.app.state.coordinator
    assert isinstance(coordinator, Coordinator)
    return coordinator


#: A parameter of this type is given the coordinator that serves the request.
Core = Annotated[Coordinator, Depends(_of)]
