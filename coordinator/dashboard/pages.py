"""What a page is: a function of one who is signed in and an address, which gives a template and its values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from coordinator.access.keys import Caller
from coordinator.api.inside import Api, Refusal
from coordinator.context import Coordinator
from coordinator.dashboard import rendering
from coordinator.foundation.errors import CoordinatorError
from coordinator.signals.waking import RUNS

log = structlog.get_logger()

#: Seconds after which a live page is looked at again where nothing wakes it.
EVERY = 2.0


class View(NamedTuple):
    """`topics`: at whose changes a live page is looked at again, besides every so many seconds."""

    template: str
    values: dict[str, Any]
    topics: tuple[str, ...] = (RUNS,)
    status: int = 200


class Page:
    """One request for a page. `path`: its parameters; `form`: of what was sent, the last value of each name."""

    def __init__(self, request: Request, form: list[tuple[str, str]] | None = None) -> None:
        core: Coordinator = request.app.state.coordinator
        caller: Caller = request.scope["state"]["caller"]
        self.request = request
        self.core = core
        self.caller = caller
        self.api = Api(request, caller)
        self.path: dict[str, str] = {name: str(value) for name, value in request.path_params.items()}
        self.fields = form or []
        self.form = dict(self.fields)

    def query(self, name: str) -> str:
        return self.request.query_params.get(name, "").strip()

    def queries(self, name: str) -> list[str]:
        return [value for value in self.request.query_params.getlist(name) if value]

    @property
    def address(self) -> str:
        """Its own, which is all of its state."""
        query = urlencode(self.request.query_params.multi_items())
        return quote(self.request.url.path) + (f"?{query}" if query else "")

    def following(self, found: dict[str, Any], **given: Any) -> str | None:
        """The address of the page after this one of a list; None for the last."""
        return rendering.address(self.request.url.path, **given, cursor=found["next"]) if found["next"] else None

    def chosen(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]

    def render(self, view: View) -> Response:
        return rendering.html(view.template, self.values(view), view.status)

    def values(self, view: View) -> dict[str, Any]:
        return {
            "page": self,
            "caller": self.caller,
            "forbids": self.api.forbids,
            "here": self.address,
            **view.values,
        }


Made = Awaitable[View | Response]
Handler = Callable[[Page], Made]

#: All of them, in the order in which an address is looked for.
routes: list[Route] = []
#: By the route's path: what makes the page.
handlers: dict[str, Handler] = {}


def page(path: str) -> Callable[[Handler], Handler]:
    """Declares a page."""

    def declare(handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            if "caller" not in request.scope.get("state", {}):
                return to_login(request)
            return await _answer(Page(request), handler)

        handlers[path] = handler
        routes.append(Route(path, answer, methods=["GET"]))
        return handler

    return declare


def action(path: str) -> Callable[[Handler], Handler]:
    """Declares what a form does: it gives the address to go on to, or a view that says what is wrong."""

    def declare(handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            if (refused := foreign(request)) is not None:
                return refused
            if "caller" not in request.scope.get("state", {}):
                return to_login(request)
            return await _answer(Page(request, await form(request)), handler)

        routes.append(Route(path, answer, methods=["POST"]))
        return handler

    return declare


async def _answer(made: Page, handler: Handler) -> Response:
    try:
        view = await handler(made)
        return view if isinstance(view, Response) else made.render(view)
    except Refusal as refusal:
        if refusal.status == 401:
            return to_login(made.request)
        view = View("problem.html", {"problem": refusal}, status=refusal.status)
    except CoordinatorError as error:
        shown = Refusal(error.status, error.problem().code, error.message, [])
        view = View("problem.html", {"problem": shown}, status=error.status)
    except Exception as error:
        log.error("a page failed", path=made.request.url.path, exc_info=error)
        shown = Refusal(500, "internal", "the coordinator failed; its log says why", [])
        view = View("problem.html", {"problem": shown}, status=500)
    return made.render(view)


def lost(request: Request) -> Response | None:
    """The page for an address that has none; None where it was no person who asked."""
    if "text/html" not in request.headers.get("accept", "") or "caller" not in request.scope.get("state", {}):
        return None
    problem = Refusal(404, "not_found", f"there is no page {request.url.path}", [])
    return Page(request).render(View("problem.html", {"problem": problem}, status=404))


async def form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form."""
    body = await request.body()
    return [
        (name, value.replace("\r\n", "\n"))
        for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=5000)
    ]


def foreign(request: Request) -> Response | None:
    """The refusal of a form that another site has sent: no cookie of this one makes it ours."""
    site = request.headers.get("sec-fetch-site")
    if site is None:  # a browser that doesn't say; no browser lets a page choose the origin that it sends
        origin = request.headers.get("origin", "")
        host = request.headers.get("host", "")
        site = "same-origin" if origin.partition("://")[2] == host else "cross-site"
    if site == "same-origin":
        return None
    return Response("this form was not sent from the dashboard itself\n", 403, rendering.HEADERS, "text/plain")


def to(path: str) -> Response:
    """The page to go on with after a form."""
    return RedirectResponse(local(path), 303, headers=rendering.HEADERS)


def local(path: str) -> str:
    """`path` where it is one of this site, else the first page."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if fine else "/"


def to_login(request: Request) -> Response:
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    going = asked if request.method == "GET" else "/"
    return to(rendering.address("/login", next=None if going == "/" else going))
