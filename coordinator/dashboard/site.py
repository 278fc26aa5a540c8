"""All of the dashboard's routes, in their order."""

from __future__ import annotations

from importlib import import_module

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from coordinator.dashboard import download, live, logs, pages, passing, rendering, signing

#: Each declares its pages as it is imported.
_PAGES = (
    "overview",
    "saved",
    "runs",
    "run",
    "logs",
    "tasks",
    "errors",
    "line",
    "sources",
    "deployments",
    "pool",
    "install",
)
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


async def static(request: Request) -> Response:
    """A file that its address names with its digest: it never changes, and is kept by browsers for a year."""
    name = request.path_params["name"]
    path = rendering.STATIC / name
    if path.suffix not in _TYPES or path.parent != rendering.STATIC or not path.is_file():
        return Response("there is no such file\n", 404, rendering.HEADERS, "text/plain")
    fixed = request.query_params.get("v") == rendering.version(name)
    kept = "public, max-age=31536000, immutable" if fixed else "no-cache"
    return Response(
        path.read_bytes(), headers={**rendering.HEADERS, "Cache-Control": kept}, media_type=_TYPES[path.suffix]
    )


def routes() -> list[BaseRoute]:
    for name in _PAGES:
        import_module(f"coordinator.dashboard.{name}")
    return [
        Route("/static/{name}", static, methods=["GET"]),
        *signing.ROUTES,
        *live.ROUTES,
        *logs.ROUTES,
        *passing.ROUTES,
        *download.ROUTES,
        *pages.routes,
    ]
