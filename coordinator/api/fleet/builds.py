"""What the runner that builds a deployment calls."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi.responses import FileResponse

from coordinator.api.routers import fleet
from coordinator.context import Core
from coordinator.deployments import builds
from coordinator.foundation.errors import Gone
from coordinator.signals import waking
from coordinator.wire import BuildDone, BuildFailed, BuildLog

router = fleet("/builds/{deployment}")


@router.get("/source")
async def source(deployment: str, core: Core) -> FileResponse:
    """The archive as it was uploaded. Raises Gone (`source_gone`) where nobody has it any more."""
    blob = await core.database.read(builds.source, deployment)
    if not core.blobs.path(blob).is_file():
        raise Gone(
            f"the source of the deployment {deployment} is not in the blob store (blob {blob}): restore it there, "
            "or deploy the project again and replay its runs on the new version",
            code="source_gone",
        )
    return FileResponse(core.blobs.path(blob), media_type="application/octet-stream")


@router.post("/log")
async def add_log(deployment: str, body: BuildLog, core: Core) -> dict[str, Any]:
    await core.database.write(builds.add_log, deployment, body.token, body.lines)
    core.waking.notify(waking.build(deployment))
    return {}


@router.post("/done")
async def done(deployment: str, body: BuildDone, core: Core) -> dict[str, Any]:
    index = await asyncio.to_thread(builds.read, body)
    outcome = await core.database.write(builds.done, deployment, body, index)
    core.waking.notify(waking.build(deployment), waking.BUILDS, waking.CLAIMS, waking.DUE)
    return {"status": outcome.status}


@router.post("/failed")
async def failed(deployment: str, body: BuildFailed, core: Core) -> dict[str, Any]:
    outcome = await core.database.write(builds.failed, deployment, body)
    core.waking.notify(waking.build(deployment), waking.BUILDS)
    return {"status": outcome.status}
