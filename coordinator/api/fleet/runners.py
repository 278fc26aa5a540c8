"""What runners call: claims, heartbeats, commands, adoption."""

from __future__ import annotations

from time import monotonic

from fastapi import Request
from sqlalchemy import Connection

from coordinator.access import hosts
from coordinator.api.direct import Held, Way
from coordinator.api.fleet.assignments import assignment, wanted
from coordinator.api.polling import poll
from coordinator.api.routers import fleet
from coordinator.attempts import claims, runners
from coordinator.attempts.claims import Claimed
from coordinator.context import Coordinator, Core
from coordinator.deployments import ahead, builds, images
from coordinator.deployments.ahead import Ahead
from coordinator.foundation.limits import LEASE
from coordinator.line import lanes
from coordinator.maintenance import sweep
from coordinator.signals import waking
from coordinator.wire import (
    FLEET,
    AdoptReply,
    Build,
    Cancel,
    ClaimRequest,
    ClaimResponse,
    CommandsReply,
    CommandsRequest,
    Enrol,
    Enrolled,
    Heartbeat,
    HeartbeatReply,
    HeldImages,
    RemovableImages,
)

router = fleet()


@router.post("/runners/{runner}/enrol")
async def enrol(runner: str, body: Enrol, request: Request, core: Core) -> Enrolled:
    """Makes the key whose SHA-256 this is the runner's own; `key` null: the one it came with is that already."""
    state = request.scope["state"]
    name = await core.database.write(hosts.enrol, runner, body.hash, state.get("host_token"), state.get("caller"))
    # (who is bound now is asked of the database)
    core.callers.forget()
    return Enrolled(key=name)


async def claim(core: Coordinator, runner: str, body: ClaimRequest, request: Request) -> ClaimResponse:
    """Held until there is something for the runner; empty lists when the time is up."""
    line, asked = core.line, (body.memory, body.slots)

    def take(conn: Connection, now: float) -> tuple[list[Claimed], list[Build], bool]:
        if hosts.drained(conn, runner):
            return [], [], False
        built = builds.claim(conn, now, runner, body.builds, body.build_shares) if body.builds > 0 else []
        taken = claims.claim(conn, now, runner, body, core.settings.max_running) if body.slots > 0 else []
        return taken, built, body.slots > 0 and lanes.none_waits(conn)

    async def look() -> tuple[list[Claimed], list[Build]] | None:
        if body.builds <= 0 and line.known(runner, asked, monotonic()):
            return None
        before = line.looking()
        taken, built, empty = await core.database.write(take)
        line.found(before, runner, asked, monotonic(), empty=empty)
        return (taken, built) if taken or built else None

    topics = [waking.CLAIMS, waking.FREED] if body.slots > 0 else []
    topics += [waking.BUILDS] if body.builds > 0 else []
    taken, built = await poll(request, core, topics, body.timeout, look) or ([], [])
    for claimed in taken:
        core.waking.notify(waking.step(claimed.run.id))
    return ClaimResponse(assignments=[await assignment(core, claimed) for claimed in taken], builds=built)


@router.post("/runners/{runner}/heartbeat")
async def heartbeat(runner: str, body: Heartbeat, core: Core) -> HeartbeatReply:
    """Renews the leases of what the runner names; what it should have and does not name is lost at once."""

    def beat(conn: Connection, now: float) -> tuple[runners.Beaten, list[Ahead]]:
        beaten = runners.heartbeat(conn, now, runner, body)
        return beaten, [] if hosts.drained(conn, runner) else ahead.wanted(conn, now, runner)

    beaten, wishes = await core.database.write(beat)
    named = {held.id for held in [*body.attempts, *body.builds]}
    if await core.database.read(sweep.unnamed, runner, named):
        core.waking.notify(*await core.database.write(sweep.end_unnamed, runner, named))
    return HeartbeatReply(
        lease=LEASE,
        lost=beaten.lost,
        pool=beaten.pool,
        wanted=[told for wish in wishes if (told := wanted(wish)) is not None],
    )


@router.post("/runners/{runner}/commands")
async def commands(runner: str, body: CommandsRequest, request: Request, core: Core) -> CommandsReply:
    """Held until an attempt of the runner is to be canceled."""

    async def look() -> list[str] | None:
        return await core.database.read(runners.cancels, runner, body.known) or None

    found = await poll(request, core, [waking.commands(runner)], body.timeout, look)
    return CommandsReply(cancels=[Cancel(attempt=attempt) for attempt in found or []])


@router.get("/runners/{runner}/attempts")
async def adopt(runner: str, core: Core) -> AdoptReply:
    """Every live attempt of a runner that has just started again; their leases begin anew."""
    found = await core.database.write(claims.live, runner)
    return AdoptReply(assignments=[await assignment(core, claimed) for claimed in found])


@router.post("/runners/{runner}/images")
async def removable_images(runner: str, body: HeldImages, core: Core) -> RemovableImages:
    """Which of its images the runner may remove."""
    found = await core.database.write(images.removable, body.images, core.settings.keep_versions)
    return RemovableImages(remove=found)


WAY = Way(f"{FLEET}/runners/", {"claim": Held(ClaimRequest, claim)})
