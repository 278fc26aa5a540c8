"""Runners as tests play them: each with a key of its own, made with a token when it says something first."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator
from typing import Any

import httpx

_FLEET = "/internal/v1/"
_ABOUT = re.compile(rf"{_FLEET}(runners|attempts|builds)/([^/]+)")


def own_key(runner: str) -> str:
    """The key that a runner of tests has; the same one after a coordinator has begun again."""
    return f"rk_of_{runner}_in_tests_{'k' * 20}"


class Runners(httpx.Auth):
    """Signs each request to the fleet's side as the runner that it is about, and any other as `r1`.

    An attempt's or a build's is the one whose claim it came with. A request that has a key of its own keeps it.
    """

    requires_response_body = True

    def __init__(self, admin_key: str, api: str = "") -> None:
        """`api`: where tokens are made, if that is not where requests go."""
        self._api = api
        self._admin = {"Authorization": f"Bearer {admin_key}"}
        self._enrolled: set[str] = set()
        #: By id of an attempt or deployment.
        self._owners: dict[str, str] = {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if "Authorization" in request.headers:
            yield request
            return
        about = _ABOUT.match(request.url.path)
        kind, name = about.groups() if about is not None else ("runners", "r1")
        runner = name if kind == "runners" else self._owners.get(name, "r1")
        if runner not in self._enrolled:
            made = yield self._post(request, "/api/v1/hosts/token", {}, self._admin)
            made.raise_for_status()
            token = {"Authorization": f"Bearer {made.json()['token']}"}
            hashed = hashlib.sha256(own_key(runner).encode()).hexdigest()
            let_in = yield self._post(request, f"{_FLEET}runners/{runner}/enrol", {"hash": hashed}, token)
            let_in.raise_for_status()
            self._enrolled.add(runner)
        request.headers["Authorization"] = f"Bearer {own_key(runner)}"
        answer = yield request
        if about is not None and answer.is_success and request.url.path.endswith(("/claim", "/attempts")):
            self._note(runner, answer.json())

    def _note(self, runner: str, given: dict[str, Any]) -> None:
        self._owners |= {one["attempt"]: runner for one in given.get("assignments", [])}
        self._owners |= {one["deployment"]: runner for one in given.get("builds", [])}

    def _post(
        self, request: httpx.Request, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> httpx.Request:
        where = request.url.copy_with(path=path, query=None)
        if self._api and not path.startswith(_FLEET):
            where = httpx.URL(self._api + path)
        content = json.dumps(body).encode()
        return httpx.Request(
            "POST",
            where,
            content=content,
            headers={**headers, "Content-Type": "application/json"},
            extensions=request.extensions,
        )
