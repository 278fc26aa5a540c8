"""An install with runs of every kind to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.browser.watching import Visitor
from tests.stack import Stack, stack
from tests.waiting import eventually

HOSTILE_TAG = "<script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("sights")
        made.deploy("probe")
        yield made


@pytest.fixture(scope="module")
def runs(samovar: Stack) -> dict[str, str]:
    """A run of each kind, by the name of its task; `steady` goes on."""
    found: dict[str, str] = {}
    with samovar.client() as client:
        wanted = {"greet": {"name": "Ada", "times": 3}, "hostile": {}, "picky": {"name": "now"}, "greedy": {}}
        made = {name: client.trigger(name, payload, tags=[HOSTILE_TAG]) for name, payload in wanted.items()}
        for name, run in made.items():
            run.wait(120)
            found[name] = run.id
        found["asks"] = client.trigger("asks", {}).id
        found["steady"] = client.trigger("steady", {}).id
    eventually(
        lambda: samovar.cli("runs", "show", found["asks"])["status"] == "waiting", "the token to be asked for"
    )
    eventually(lambda: samovar.cli("runs", "show", found["steady"])["status"] == "running", "a run to go on")
    httpx.post(f"{samovar.url}/hooks/sights/sights", json={"x": HOSTILE_TAG}, timeout=30)
    samovar.cli("events", "send", "greeting", "--payload", json.dumps({"x": HOSTILE_TAG}))
    samovar.cli("secrets", "set", "TOKEN", "--project", "sights", stdin="something")
    eventually(lambda: len(samovar.cli("errors", "list")["items"]) >= 3, "the errors to be counted")
    return found


@pytest.fixture
def page(visitor: Visitor, key: str) -> Page:
    return visitor.sign_in(key)


def api(samovar: Stack, key: str, path: str, **query: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{samovar.url}/api/v1{path}", headers=headers, params=query, timeout=30)
    return dict(answer.raise_for_status().json())
