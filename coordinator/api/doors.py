"""Which listener answers whom, where runners and sidecars have listeners of their own.

What everybody sends can fill the connections, the line of those not accepted yet and the header budgets of
everybody's port, and not those of the fleet's. So one listener is no way to the other's routes: the fleet's are
answered 421 at everybody's port, and everybody's at the fleet's. Health is answered at both.
"""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.foundation.errors import Misdirected
from coordinator.wire import FLEET

#: Under which a request says in its scope that it came in by a listener of the fleet's.
BY_FLEET = "samovar.fleet"

_HEALTH = ("/healthz", "/readyz")


class FleetDoor:
    """ASGI: an application as runners and sidecars see it, at a listener of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (scope["path"].startswith(f"{FLEET}/") or scope["path"] in _HEALTH):
            await _refuse("here runners and sidecars are answered, and nobody else", scope, receive, send)
            return
        scope[BY_FLEET] = True
        await self._app(scope, receive, send)


class PublicDoor:
    """ASGI: an application as everybody sees it, where the fleet has listeners of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{FLEET}/"):
            message = (
                "runners and sidecars are not answered here, but where the coordinator's setting fleet_listen "
                "(SAMOVAR_COORDINATOR_FLEET_LISTEN) says: give them that as their coordinator_url. With "
                "SAMOVAR_COORDINATOR_FLEET_AT_PORT=true they are answered here as well"
            )
            await _refuse(message, scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _refuse(message: str, scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Misdirected(message)
    answer = JSONResponse({"error": refusal.problem().model_dump()}, refusal.status)
    await answer(scope, receive, send)
