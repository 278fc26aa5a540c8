"""Signing in and out: a key is shown once, and a cookie stands for it from then on."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coordinator.access import sessions
from coordinator.access.keys import hash_key
from coordinator.access.sessions import SESSION
from coordinator.api import acts
from coordinator.api.inside import COOKIE
from coordinator.context import Coordinator
from coordinator.dashboard import rendering
from coordinator.dashboard.pages import foreign, form, local, to
from coordinator.foundation.errors import Unauthenticated
from coordinator.signals.waking import KEYS


async def ask(request: Request) -> Response:
    """The form that asks for a key."""
    return _form(request.query_params.get("next", ""))


async def sign_in(request: Request) -> Response:
    if (refused := foreign(request)) is not None:
        return refused
    core: Coordinator = request.app.state.coordinator
    given = dict(await form(request))
    going = given.get("next", "")
    try:
        caller = await core.callers.find(given.get("key", "").strip())
    except Unauthenticated:
        return _form(going, "This key is not known, or was revoked. `samovar keys create` makes one.", 401)
    if caller.role == "runner":
        return _form(going, "This is a runner's key: it may see nothing here. Take one with another role.", 403)
    acts.by(caller)
    cookie = await core.database.write(sessions.open, caller.id)
    return _with_cookie(request, to(going or "/"), cookie)


async def by_link(request: Request) -> Response:
    """A link that signs in once. Only on the host itself: what stands in a terminal there stays there."""
    core: Coordinator = request.app.state.coordinator
    if not _is_here(request):
        return _form("", "This link works on the coordinator's own host only. Sign in with a key.", 403)
    secret = request.path_params["secret"]
    opened = await core.database.write(sessions.use_link, hash_key(secret))
    if opened is None:
        return _form("", "This link was used before, or is over. `samovar open` makes another.", 401)
    return _with_cookie(request, to(opened.path), opened.cookie)


async def sign_out(request: Request) -> Response:
    if (refused := foreign(request)) is not None:
        return refused
    core: Coordinator = request.app.state.coordinator
    if (cookie := request.cookies.get(COOKIE)) is not None:
        await core.database.write(sessions.end, hash_key(cookie))
        core.callers.forget()
        core.waking.notify(KEYS)
    answer = to("/login")
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _form(going: str, problem: str = "", status: int = 200) -> Response:
    return rendering.html("login.html", {"next": local(going) if going else "", "problem": problem}, status)


def _with_cookie(request: Request, answer: Response, cookie: str) -> Response:
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, cookie, int(SESSION), path="/", secure=secure, httponly=True, samesite="lax")
    return answer


def _is_here(request: Request) -> bool:
    """Whether the one who asks is on this host, and no proxy asks for somebody else."""
    client = request.client
    try:
        here = client is not None and ip_address(client.host).is_loopback
    except ValueError:
        return False
    return here and not any(name in request.headers for name in ("forwarded", "x-forwarded-for", "via"))


ROUTES = [
    Route("/login", ask, methods=["GET"]),
    Route("/login", sign_in, methods=["POST"]),
    Route("/login/{secret}", by_link, methods=["GET"]),
    Route("/logout", sign_out, methods=["POST"]),
]
