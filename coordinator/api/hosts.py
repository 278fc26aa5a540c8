"""Hosts: tokens that enrol them, which there are, and taking one out of service."""

from __future__ import annotations

from coordinator.access import hosts
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Coordinator, Core
from coordinator.foundation.errors import NotFound
from coordinator.runs.views import iso
from coordinator.signals import waking
from coordinator.wire import Host, HostPage, HostToken, HostTokenRequest

router = public("hosts", "/hosts")


@router.post(
    "/token", status_code=201, response_model=HostToken, summary="Make a token for a host", responses=refusals(422)
)
async def token(core: Core, body: HostTokenRequest | None = None) -> HostToken:
    """It enrols one runner, once. `token` is in this answer and nowhere else: only its SHA-256 is kept."""
    lifetime = (body or HostTokenRequest()).expires_in
    row, made = await core.database.write(hosts.make_token, lifetime)
    return HostToken(id=row.id, token=made, expires_at=iso(row.expires_at))


@router.get("", response_model=HostPage, summary="List hosts")
async def listing(core: Core) -> HostPage:
    """All that there have been, by the ids of their runners."""
    return HostPage(items=[_shown(host) for host in await core.database.read(hosts.listing)])


@router.post("/{runner}/drain", response_model=Host, summary="Give a host nothing new", responses=refusals(404))
async def drain(runner: str, core: Core) -> Host:
    """What it has goes on to its end."""
    return await _drain(core, runner, True)


@router.delete("/{runner}/drain", response_model=Host, summary="Use a drained host again", responses=refusals(404))
async def undrain(runner: str, core: Core) -> Host:
    return await _drain(core, runner, False)


async def _drain(core: Coordinator, runner: str, on: bool) -> Host:
    await core.database.write(hosts.drain, runner, on)
    core.waking.notify(waking.CLAIMS, waking.BUILDS)
    for host in await core.database.read(hosts.listing):
        if host["runner"] == runner:
            return _shown(host)
    raise NotFound(f"there is no host {runner[:80]!r}")


def _shown(host: dict[str, object]) -> Host:
    times = {name: iso(host[name]) for name in ("seen_at", "drained_at", "revoked_at")}  # type: ignore[arg-type]
    return Host.model_validate({**host, **times})
