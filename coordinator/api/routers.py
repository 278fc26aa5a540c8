"""Routers whose routes are whole where they are declared.

Of a router that is included FastAPI builds every route once more, for each application, and while the first request
waits for it: half a second of a processor. These bring their prefix and dependencies with them, and `create_app`
takes their routes as they are.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.security import HTTPBearer

from coordinator.api.reading import Route
from coordinator.wire import API, FLEET

# the gate checks the key; this only writes the scheme into the OpenAPI document
_BEARER: Any = HTTPBearer(auto_error=False, description="A key with the role admin")


def public(tag: str, prefix: str = "") -> APIRouter:
    """For what clients with a key ask for, below /api/v1."""
    return APIRouter(prefix=API + prefix, tags=[tag], dependencies=[Depends(_BEARER)], route_class=Route)


def open_to_all(tag: str) -> APIRouter:
    """For what is asked for at the root, without a key."""
    return APIRouter(tags=[tag], route_class=Route)


def fleet(prefix: str = "") -> APIRouter:
    """For runners and sidecars; in no document for clients."""
    return APIRouter(prefix=FLEET + prefix, include_in_schema=False, route_class=Route)
