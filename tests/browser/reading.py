"""Whether everybody can read a page: axe-core's rules of WCAG 2.1 A and AA; light, dark, narrow and enlarged."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.browser.watching import Visitor

_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


class View(NamedTuple):
    """How a page is looked at. Enlarged to `scale`, the same screen has less room, in CSS's pixels."""

    scheme: Literal["light", "dark"]
    width: int
    height: int
    scale: int = 1


VIEWS = {
    "light": View("light", 1280, 800),
    "dark": View("dark", 1280, 800),
    "320 px": View("light", 320, 640),
    "320 px, dark": View("dark", 320, 640),
    "200 %": View("light", 640, 400, scale=2),
}
#: What stands for the others where a page is one of many.
FEW = {"light": VIEWS["light"], "320 px, dark": VIEWS["320 px, dark"], "200 %": VIEWS["200 %"]}
#: Where pictures go; none are taken where this is not set (`make pictures`).
PICTURES = "SAMOVAR_TEST_PICTURES"


def violations(page: Page) -> list[str]:
    """What axe finds on the page as it stands, a line for each place."""
    session = page.context.new_cdp_session(page)
    try:
        # past the page's policy, which forbids to evaluate text, and without breaking it
        if not _evaluate(session, "'axe' in window"):
            _evaluate(session, f"{AXE_SCRIPT}; undefined")
        options = json.dumps({"runOnly": {"type": "tag", "values": _TAGS}, "resultTypes": ["violations"]})
        found = _evaluate(session, f"axe.run({options}).then((results) => results.violations)")
    finally:
        session.detach()
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]


def overflow(page: Page) -> str | None:
    """Where the page is wider than its window (WCAG 1.4.10): by how much, and the outermost elements that are."""
    found: list[Any] = page.evaluate(
        """() => {
            const root = document.documentElement, room = root.clientWidth;
            const wide = [...document.querySelectorAll("body *")].filter((element) =>
                element.getBoundingClientRect().right > room + 1);
            return [root.scrollWidth - room, wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120))];
        }"""
    )
    beyond, elements = found
    return f"{beyond} px wider than its window: {elements}" if beyond > 0 else None


def check_reading(visitor: Visitor, path: str, views: Mapping[str, View] = VIEWS) -> None:
    """Looks at `path` in each of `views`, as the visitor is signed in; its page is there afterwards. Raises
    AssertionError with all it found.
    """
    wrong: list[str] = []
    for scale in sorted({view.scale for view in views.values()}):
        seen = {name: view for name, view in views.items() if view.scale == scale}
        wrong += _wrong(visitor if scale == 1 else visitor.scaled(scale), path, seen)
    assert not wrong, "\n".join([f"{path} can't be read by everybody:", *wrong])


def _wrong(visitor: Visitor, path: str, views: Mapping[str, View]) -> list[str]:
    page = visitor.page if visitor.page.url == visitor.server + path else visitor.go(path)
    found, before = [], page.viewport_size
    for name, view in views.items():
        page.set_viewport_size({"width": view.width, "height": view.height})
        page.emulate_media(color_scheme=view.scheme, reduced_motion="reduce")
        found += [f"{name}: {text}" for text in violations(page)]
        beyond = overflow(page)
        if beyond:
            found.append(f"{name}: {beyond}")
    if before is not None:
        page.set_viewport_size(before)
    page.emulate_media(color_scheme="null", reduced_motion="null")  # as it was
    return found


def picture(page: Page, name: str) -> None:
    """Keeps what is seen now for the documentation, where pictures are asked for: as NAME.png and NAME-dark.png."""
    if os.environ.get(PICTURES):
        folder = Path(os.environ[PICTURES])
        folder.mkdir(parents=True, exist_ok=True)
        for scheme, path in (("dark", folder / f"{name}-dark.png"), ("light", folder / f"{name}.png")):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            # without a blinking cursor, and with what moves at its end: the same each time
            page.screenshot(path=path, animations="disabled", caret="hide")


def _evaluate(session: Any, expression: str) -> Any:
    parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
    answer = session.send("Runtime.evaluate", parameters)
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]
    return answer["result"].get("value")
