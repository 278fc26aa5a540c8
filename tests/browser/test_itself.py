"""The watch itself: what a page may not do is seen, and a good page passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.reading import PICTURES, VIEWS, check_reading, overflow, picture, violations
from tests.browser.watching import Visitor, visiting
from tests.waiting import eventually

pytestmark = pytest.mark.browser

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'"
STYLE = """
:root { color-scheme: light dark; } body { margin: 1rem; color: #111; background: #fff; }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #111; } }
"""


def page(body: str, head: str = "") -> str:
    return (
        '<!doctype html><html lang="en"><head><title>A page</title><link rel="stylesheet" href="/style.css">'
        f'<link rel="icon" href="/icon.svg">{head}</head><body><main><h1>A page</h1>{body}</main></body></html>'
    )


@dataclass
class Site:
    """A server of `pages` (path → body), which counts what it is asked."""

    url: str
    pages: dict[str, str]
    asked: list[str]
    policy: str = POLICY


@contextmanager
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            path, signed = self.path.partition("?")[0], "signed=yes" in self.headers.get("cookie", "")
            if path == "/private" and not signed:
                self._answer(303, "", location="/login")
            elif path.endswith((".js", ".css", ".svg", ".ico")):
                kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "ico": "image/x-icon"}
                self._answer(200, made.pages.get(path, ""), **{"content-type": kinds[path.rpartition(".")[2]]})
            else:
                self._answer(200 if path in made.pages else 404, made.pages.get(path, "nothing here"))

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["content-length"]))
            self._answer(303, "", location="/", **({"set-cookie": "signed=yes"} if form == b"key=sesame" else {}))

        def _answer(self, status: int, text: str, **headers: str) -> None:
            self.send_response(status)
            plain = {"content-type": "text/html; charset=utf-8", "content-security-policy": made.policy}
            for name, value in {**plain, "content-length": str(len(text.encode())), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}", {}, [])
    made.pages |= {
        "/style.css": STYLE,
        "/icon.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
        "/": page("<p>Hi"),
    }
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def here() -> Iterator[Site]:
    with site() as made:
        yield made


def problem(browser: Browser, here: Site, body: str, script: str = "", path: str = "/bad") -> str:
    """What the watch says about a page."""
    here.pages |= {"/bad": page(body, '<script type="module" src="/bad.js"></script>'), "/bad.js": script}

    def visit() -> None:
        with visiting(browser, here.url) as visitor:
            visitor.go(path)
            visitor.page.wait_for_load_state("networkidle")

    with pytest.raises(AssertionError) as raised:
        visit()
    return str(raised.value)


def test_a_good_page_passes(browser: Browser, here: Site) -> None:
    here.pages |= {
        "/good": page("<p>Well done.</p>", '<script type="module" src="/good.js"></script>'),
        "/good.js": 'console.warn("a warning is none"); document.querySelector("p").textContent += " Truly.";',
    }
    with visiting(browser, here.url) as visitor:
        shown = visitor.go("/good")
        shown.get_by_text("Well done. Truly.").wait_for()
        check_reading(visitor, "/good")
        assert f"{here.url}/style.css" in visitor.requests


def test_what_breaks_the_policy_is_seen(browser: Browser, here: Site) -> None:
    said = problem(browser, here, '<p style="color: red">styled</p>')
    assert "policy: style-src-attr forbids inline" in said
    assert "policy: script-src-elem forbids inline" in problem(browser, here, "<script>let x = 1</script>")
    # also what a script is refused, and nobody prints
    script = 'try { new Function("return 1")() } catch (error) {}'
    assert "policy: script-src forbids eval" in problem(browser, here, "", script)


def test_errors_are_seen(browser: Browser, here: Site) -> None:
    assert "console: out of tea" in problem(browser, here, "", 'console.error("out of tea")')
    assert "error: thrown away" in problem(browser, here, "", 'throw new Error("thrown away")')
    assert "refused later" in problem(browser, here, "", 'Promise.reject(new Error("refused later"))')
    assert "404" in problem(browser, here, '<img src="/none" alt="">')
    assert "404" in problem(browser, here, "", path="/not-there")


def test_requests_to_others_are_seen(browser: Browser, here: Site) -> None:
    with site() as other:
        here.policy = "default-src *"
        said = problem(browser, here, f'<img src="{other.url}/icon.svg" alt="">')
        assert said.splitlines()[1:] == [f"foreign request: {other.url}/icon.svg"]
        assert other.asked == ["/icon.svg"]
        # by another name it is another origin, and so are pages that are left for
        named = here.url.replace("127.0.0.1", "localhost")
        script = f'fetch("{named}/", {{mode: "no-cors"}})'
        assert f"foreign request: {named}/" in problem(browser, here, "", script)
        link = f'<meta http-equiv="refresh" content="0; url={other.url}/">'
        here.pages["/leave"] = page("", link)
        assert f"foreign request: {other.url}/" in problem(browser, here, "", path="/leave")
        socket = f'new WebSocket("{other.url.replace("http", "ws")}/live")'
        assert f"foreign request: {other.url.replace('http', 'ws')}/live" in problem(browser, here, "", socket)


def test_nobody_beyond_this_machine_is_reached(browser: Browser, here: Site) -> None:
    here.policy = "default-src *"
    said = problem(browser, here, '<img src="https://samovar.example/a.png" alt="">')
    assert "foreign request: https://samovar.example/a.png" in said
    assert "ERR_NAME_NOT_RESOLVED" in said


def test_what_is_meant_to_be_is_allowed_by_its_name_alone(browser: Browser, here: Site) -> None:
    def visit(path: str) -> None:
        with visiting(browser, here.url) as visitor:
            visitor.allow(r"status of 404 .*/not-there")
            visitor.go(path)

    visit("/not-there")
    with pytest.raises(AssertionError, match="nor-this"):
        visit("/nor-this")


def test_a_failure_in_the_block_is_the_one_that_is_told(browser: Browser, here: Site) -> None:
    def visit() -> None:
        with visiting(browser, here.url) as visitor:
            visitor.go("/not-there")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        visit()


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ('<img src="/icon.svg">', "image-alt"),
        ("<input>", "label"),
        ('<p class="faint">faint</p>', "color-contrast"),
    ],
)
def test_what_not_everybody_can_read_is_seen(browser: Browser, here: Site, body: str, rule: str) -> None:
    here.pages |= {"/bad": page(body), "/style.css": STYLE + ".faint { color: #777; background: #888; }"}
    with visiting(browser, here.url) as visitor:
        assert any(text.startswith(rule) for text in violations(visitor.go("/bad")))
        assert violations(visitor.go("/")) == []
        with pytest.raises(AssertionError, match=rf"light: {rule}"):
            check_reading(visitor, "/bad", {"light": VIEWS["light"]})


def test_what_only_one_scheme_or_width_has_is_seen(browser: Browser, here: Site) -> None:
    dark = "@media (prefers-color-scheme: dark) { p { color: #222; } }"
    here.pages |= {"/wide.css": ".wide { width: 600px; height: 1px; }", "/dark.css": dark}
    here.pages["/dark"] = page("<p>in the dark</p>", '<link rel="stylesheet" href="/dark.css">')
    here.pages["/wide"] = page('<div class="wide"></div>', '<link rel="stylesheet" href="/wide.css">')
    with visiting(browser, here.url) as visitor:
        with pytest.raises(AssertionError) as raised:
            check_reading(visitor, "/dark")
        seen = {text.partition(": color-contrast")[0] for text in str(raised.value).splitlines()[1:]}
        assert seen == {"dark", "320 px, dark"}
        with pytest.raises(AssertionError) as raised:
            check_reading(visitor, "/wide")
        (wrong, *more) = str(raised.value).splitlines()[1:]
        assert wrong.startswith("320 px: 296 px wider")
        assert [text.partition(":")[0] for text in more] == ["320 px, dark"]
        assert overflow(visitor.go("/wide")) is None


def test_somebody_signs_in_by_the_form_and_stays_so_on_another_screen(browser: Browser, here: Site) -> None:
    form = '<form method="post" action="/login"><label>Key <input name="key" type="password"></label></form>'
    here.pages |= {"/login": page(form), "/private": page("<p>yours</p>")}
    with visiting(browser, here.url) as visitor:
        assert visitor.go("/private").url.endswith("/login")
        shown = visitor.sign_in("sesame", "/private")
        assert shown.get_by_text("yours").is_visible()
        with visitor.also(viewport={"width": 320, "height": 640}) as other:
            assert other.go("/private").get_by_text("yours").is_visible()
            assert other.page.viewport_size == {"width": 320, "height": 640}
        # and another person is not
        with visiting(browser, here.url) as stranger:
            assert stranger.go("/private").url.endswith("/login")


def test_a_page_without_scripts_is_watched_too(browser: Browser, here: Site) -> None:
    with visiting(browser, here.url, java_script_enabled=False) as visitor:
        assert visitor.go("/").get_by_text("Hi").is_visible()
    here.pages["/bad"] = page('<p style="color: red">styled</p>')
    with pytest.raises(AssertionError, match="style-src"):
        with visiting(browser, here.url, java_script_enabled=False) as visitor:
            visitor.go("/bad")


def test_pictures_are_taken_where_they_are_asked_for(
    browser: Browser, here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with visiting(browser, here.url) as visitor:
        shown = visitor.go("/")
        monkeypatch.delenv(PICTURES, raising=False)
        picture(shown, "none")
        monkeypatch.setenv(PICTURES, str(tmp_path / "tour"))
        picture(shown, "first")
    made = sorted((tmp_path / "tour").iterdir())
    assert [one.name for one in made] == ["first-dark.png", "first.png"]
    assert all(one.read_bytes().startswith(b"\x89PNG") for one in made)


def test_a_context_leaves_nothing_behind(browser: Browser, here: Site) -> None:
    before = len(browser.contexts)
    with visiting(browser, here.url) as visitor:
        visitor.go("/")
    eventually(lambda: len(browser.contexts) == before, "the context to be closed")
    assert isinstance(visitor, Visitor)
