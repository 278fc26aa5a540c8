"""What every request of one coordinator shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from coordinator.access.callers import Callers
from coordinator.access.keys import AttemptSecrets
from coordinator.access.vault import Vault
from coordinator.attempts.owners import Owners
from coordinator.attempts.what_ifs import WhatIfs
from coordinator.deployments.uploads import Uploads
from coordinator.line.emptiness import Emptiness
from coordinator.settings import Settings
from coordinator.signals.seats import Seats
from coordinator.signals.waking import Waking
from coordinator.storage.blobs import Blobs
from coordinator.storage.database import Database
from coordinator.storage.values import Values
from coordinator.tasks.payloads import Payloads


@dataclass(frozen=True)
class Coordinator:
    settings: Settings
    database: Database
    blobs: Blobs
    values: Values
    secrets: AttemptSecrets
    payloads: Payloads
    waking: Waking
    line: Emptiness
    vault: Vault
    seats: Seats
    callers: Callers
    owners: Owners
    uploads: Uploads
    #: By project and path, what webhooks have refused.
    refusals: dict[tuple[str, str], Any] = field(default_factory=dict)
    what_ifs: WhatIfs = field(default_factory=WhatIfs)


# async, or FastAPI would take it to a thread and back for every request
async def _of(request: Request) -> Coordinator:
    coordinator = request.app.state.coordinator
    assert isinstance(coordinator, Coordinator)
    return coordinator


#: A parameter of this type is given the coordinator that serves the request.
Core = Annotated[Coordinator, Depends(_of)]
