"""A browser that visits a running Samovar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.watching import Visitor, visiting
from tests.stack import Stack, stack

CHROMIUM = Path("/usr/bin/chromium")
#: It is root in most places where tests run, has no display, and asks nobody anything by itself.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--disable-dev-shm-usage"),
    # nor does it reach anybody where a page would make it
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]


# of the package and not of the session: while Playwright is there asyncio.run can't be, and other tests need that
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests of a worker; each visitor has a context of its own in it."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    """An install of the module's own, with the project `probe` deployed."""
    with stack() as made:
        made.deploy("probe")
        yield made


@pytest.fixture(scope="module")
def key(samovar: Stack) -> str:
    """The admin's key."""
    return str(json.loads((samovar.data / "credentials.json").read_text())["api_key"])


@pytest.fixture
def visitor(browser: Browser, samovar: Stack) -> Iterator[Visitor]:
    """Somebody at the install who has not signed in; what a page may not do fails the test at its end."""
    with visiting(browser, samovar.url) as made:
        yield made
