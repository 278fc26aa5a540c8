"""What a page may not do: say an error, break its own Content-Security-Policy, or ask anybody but its server.

    with visiting(browser, stack.url) as visitor:
        page = visitor.go("/runs")

fails at the end of the block where one of its pages has done one of these.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebSocket

#: Milliseconds that a page may take for anything.
PATIENCE = 20_000
#: The page reports by itself, in each of its frames, and before anything of the server's runs.
_REPORT = """
document.addEventListener("securitypolicyviolation", (event) => window.samovarReports(
    `${event.effectiveDirective} forbids ${event.blockedURI || "what is inline"} in ${event.documentURI}`));
"""
_SCHEMES = {"http", "https", "ws", "wss"}
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def origin(address: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port; ws counts as http, as it comes from the same server."""
    parts = urlsplit(address)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


class Visitor:
    """A browser of its own (cookies, storage) that visits one server, and is watched."""

    def __init__(self, browser: Browser, server: str, **options: Any) -> None:
        """`options`: of Browser.new_context, as color_scheme, viewport, java_script_enabled."""
        self.browser = browser
        self.server = server
        self.options = options
        self.problems: list[str] = []
        self._requests: list[str] = []
        self._scaled: dict[int, Visitor] = {}
        self._allowed: list[re.Pattern[str]] = []
        self.context: BrowserContext = browser.new_context(base_url=server, **options)
        self.context.set_default_timeout(PATIENCE)
        self.context.expose_binding("samovarReports", lambda source, text: self._note(f"policy: {text}"))
        self.context.add_init_script(_REPORT)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self._note(f"error: {error.error}"))
        self.context.on("request", self._request)
        self.context.on("page", lambda page: page.on("websocket", self._socket))

    # ------------------------------------------------------------ use

    @property
    def page(self) -> Page:
        """The newest page; one is opened where there is none."""
        return self.context.pages[-1] if self.context.pages else self.context.new_page()

    def go(self, path: str) -> Page:
        """The page at `path`, loaded."""
        self.page.goto(path)
        return self.page

    def sign_in(self, key: str, path: str = "/") -> Page:
        """Signs in by the form, as people do, and goes to `path`."""
        page = self.go("/login")
        page.locator("input[name=key]").fill(key)
        page.locator("input[name=key]").press("Enter")
        page.wait_for_url(lambda address: urlsplit(address).path != "/login")
        return page if urlsplit(page.url).path == path else self.go(path)

    @contextlib.contextmanager
    def also(self, **options: Any) -> Iterator[Visitor]:
        """The same person, signed in as here, with another screen or other preferences."""
        with visiting(self.browser, self.server, **self._as_here(options)) as other:
            yield other

    def scaled(self, scale: int) -> Visitor:
        """The same person, signed in as here, each pixel of whose screen is `scale` of its own wide and high.

        What may change while a page is there changes; this is said before, so it is another browser: one for each
        scale, watched with this one and closed with it.
        """
        if scale not in self._scaled:
            options = self._as_here({"device_scale_factor": scale})
            self._scaled[scale] = Visitor(self.browser, self.server, **options)
        return self._scaled[scale]

    def _as_here(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**self.options, **options, "storage_state": self.context.storage_state()}

    def allow(self, pattern: str) -> None:
        """A problem in which `pattern` (a regular expression) is found is meant to be."""
        self._allowed.append(re.compile(pattern))

    # ------------------------------------------------------------ watch

    @property
    def requests(self) -> list[str]:
        """Addresses that the pages have asked for until now, in their order."""
        self._hear()
        return self._requests

    def check(self) -> None:
        """Raises AssertionError that names every problem until now."""
        self._hear()
        found = [text for text in self.problems if not any(allowed.search(text) for allowed in self._allowed)]
        assert not found, "\n".join(["the pages of this test did what they may not:", *found])
        for other in self._scaled.values():
            other.check()

    def close(self) -> None:
        for other in self._scaled.values():
            other.close()
        self.context.close()

    def _hear(self) -> None:
        """What pages have said arrives before their answer, and only while something of theirs is waited for."""
        for page in self.context.pages:
            with contextlib.suppress(Exception):
                page.evaluate("1")

    def _note(self, text: str) -> None:
        self.problems.append(text)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self._note(f"console: {message.text} ({message.location.get('url', '')})")

    def _request(self, request: Request) -> None:
        self._requests.append(request.url)
        self._ask(request.url)

    def _socket(self, socket: WebSocket) -> None:
        self._ask(socket.url)

    def _ask(self, address: str) -> None:
        if urlsplit(address).scheme in _SCHEMES and origin(address) != origin(self.server):
            self._note(f"foreign request: {address}")


@contextlib.contextmanager
def visiting(browser: Browser, server: str, **options: Any) -> Iterator[Visitor]:
    """A visitor of `server`, checked at the end of the block unless that has failed already."""
    visitor = Visitor(browser, server, **options)
    try:
        yield visitor
        visitor.check()
    finally:
        visitor.close()
