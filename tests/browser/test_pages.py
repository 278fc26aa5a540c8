"""The dashboard's pages on real runs: read by everybody, deceived by nobody, and of one's own project alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import unquote

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.reading import FEW, check_reading, picture
from tests.browser.sights import api, runs, samovar
from tests.browser.watching import Visitor, visiting
from tests.stack import Stack

__all__ = ["runs", "samovar"]

pytestmark = [pytest.mark.browser, pytest.mark.docker]

PAGES = (
    "/",
    "/runs",
    "/runs?status=failed",
    "/runs?status=nonsense",
    "/runs/{greet}",
    "/runs/{greet}?scale=equal",
    "/runs/{hostile}",
    "/runs/{greedy}",
    "/runs/{asks}",
    "/runs/{steady}",
    "/runs/{hostile}/logs",
    "/runs/{hostile}/logs?text=e",
    "/runs/{hostile}/logs?children=yes",
    "/runs/{hostile}/checkpoints",
    "/runs/{hostile}/checkpoints?against={picky}",
    "/runs/{picky}/replay?from=prepared",
    "/dead-letters",
    "/bulk",
    "/tasks",
    "/tasks/sights/greet",
    "/errors",
    "/errors/sights/{error}",
    "/queues",
    "/queues/sights/task%2Fgreet",
    "/schedules",
    "/schedules/{schedule}",
    "/events",
    "/webhooks",
    "/deliveries/{delivery}",
    "/tokens",
    "/deployments",
    "/deployments/{deployment}",
    "/pool",
    "/pool?what-if=yes",
    "/containers/{container}",
    "/hosts",
    "/keys",
    "/secrets",
    "/audit",
    "/system",
    "/nothing/here",
)


@pytest.fixture(scope="module")
def reader(browser: Browser, samovar: Stack, key: str) -> Iterator[Visitor]:
    """One who has signed in, and reads page after page."""
    with visiting(browser, samovar.url) as made:
        made.sign_in(key)
        yield made


@pytest.fixture
def visitor(browser: Browser, samovar: Stack, reader: Visitor) -> Iterator[Visitor]:
    with visiting(browser, samovar.url, storage_state=reader.context.storage_state()) as made:
        yield made


def addressed(samovar: Stack, key: str, runs: dict[str, str], path: str) -> str:
    """`path` with the ids that it names."""
    if "{" not in path:
        return path
    names: dict[str, str] = {**runs}
    for name, place in (("schedule", "/schedules"), ("delivery", "/deliveries"), ("deployment", "/deployments")):
        if f"{{{name}}}" in path:
            names[name] = api(samovar, key, place)["items"][0]["id"]
    if "{error}" in path:
        groups = api(samovar, key, "/errors")["items"]
        names["error"] = next(group["fingerprint"] for group in groups if group["tasks"] == ["hostile"])
    if "{container}" in path:
        names["container"] = api(samovar, key, "/pool")["items"][0]["containers"][0]["container"]
    return path.format(**names)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_read_by_everybody_and_no_text_on_it_acts(
    reader: Visitor, samovar: Stack, key: str, runs: dict[str, str], path: str
) -> None:
    if path in ("/runs?status=nonsense", "/nothing/here"):
        reader.allow(f"status of 4.*{re.escape(path)}")  # which the browser says of the page itself
    where = addressed(samovar, key, runs, path)
    page = reader.go(where)
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert "internal" not in page.locator("main").inner_text()[:200]
    weight = len(page.content())
    assert weight < 150_000, f"{path} weighs {weight} bytes"
    assert page.locator("*").count() < 1500
    name = re.sub(r"\W+", "-", unquote(path.partition("?")[0])).strip("-") or "overview"
    if "?" not in path and path != "/nothing/here":
        picture(page, name)
    if path not in ("/runs?status=nonsense", "/nothing/here"):
        check_reading(reader, where, FEW)
    reader.check()


def test_all_of_it_is_read_without_scripts(
    browser: Browser, samovar: Stack, key: str, runs: dict[str, str]
) -> None:
    with visiting(browser, samovar.url, java_script_enabled=False) as reader:
        reader.allow("status of 422")  # which the browser says of the answer to the wrong form
        page = reader.sign_in(key)
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_role("link", name=runs["picky"]).first.click()
        expect(page.locator("main")).to_contain_text("ValueError")
        page.get_by_role("link", name="Logs", exact=True).click()
        expect(page.locator("h1")).to_contain_text("Log of")
        page.go_back()
        page.get_by_role("link", name="Replay…").click()
        page.get_by_label("Payload, as JSON").fill('{"name": 3}')
        page.get_by_role("button", name="Replay").click()
        expect(page.get_by_role("alert")).to_contain_text("3 is not text")
        assert json.loads(page.get_by_label("Payload, as JSON").input_value()) == {"name": 3}, "nothing is lost"


def test_states_are_told_apart_without_colours(visitor: Visitor, runs: dict[str, str]) -> None:
    page = visitor.go("/runs")
    seen = page.locator("#live_rows .status")
    shapes: dict[str, str] = {}
    for number in range(seen.count()):
        one = seen.nth(number)
        shapes[one.inner_text().strip()] = str(one.locator("use").get_attribute("href"))
    assert {"completed", "failed", "running", "waiting"} <= shapes.keys()
    assert len({shapes[word] for word in ("completed", "failed", "running", "waiting")}) == 4


def test_a_key_sees_its_project_alone_and_is_told_which_role_may(
    browser: Browser, samovar: Stack, key: str, runs: dict[str, str]
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    body = {"name": "of-probe", "role": "read", "project": "probe"}
    made = httpx.post(f"{samovar.url}/api/v1/keys", json=body, headers=headers, timeout=30).json()
    with visiting(browser, samovar.url) as reader:
        reader.allow("status of 4")
        page = reader.sign_in(made["key"])
        # first, as it shows what this key has asked for in vain
        for path in ("/audit", *(path for path in PAGES if path != "/audit")):
            page = reader.go(addressed(samovar, key, runs, path))
            text = page.locator("body").inner_text()
            assert "picky" not in text, path
            assert "sights" not in text or "sights" in path, path  # what was asked for may be said again
        page = reader.go("/queues")
        page.locator("#idle-queues summary").click()
        page.locator("#idle-queues a").first.click()
        assert page.get_by_role("button", name="Pause").first.is_disabled()
        expect(page.locator("main")).to_contain_text("takes one with the role admin")
        httpx.delete(f"{samovar.url}/api/v1/keys/of-probe", headers=headers, timeout=30).raise_for_status()
        # its stream ends, and so does its session
        expect(page.locator("#over")).to_contain_text("signed out", timeout=5_000)
        page = reader.go("/runs")
        expect(page).to_have_url(re.compile("/login"))
