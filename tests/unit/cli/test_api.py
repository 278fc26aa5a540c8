"""Where certificates are looked at: wherever the way to a coordinator has TLS, and nowhere else."""

from __future__ import annotations

import http.server
import ssl
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from samovar.cli.api import Api, Credentials

from runner.coordinator_client import CoordinatorClient
from tests.servers import certificates


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def asked(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> list[bool]:
    """Whether each client that is made is to look at certificates."""
    found: list[bool] = []
    init = kind.__init__

    def noting(self: Any, *args: Any, **options: Any) -> None:
        found.append(options["verify"])
        init(self, *args, **options)

    monkeypatch.setattr(kind, "__init__", noting)
    return found


@pytest.mark.parametrize(
    ("url", "proxy", "looked"),
    [
        ("http://127.0.0.1:7420", None, False),
        ("http://127.0.0.1:7420", "http://proxy:3128", False),
        ("http://127.0.0.1:7420", "https://proxy:3128", True),
        ("https://samovar.example", None, True),
        ("HTTPS://samovar.example", None, True),
        ("samovar.example", None, True),
    ],
)
def test_the_command_line(monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None, looked: bool) -> None:
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    found = asked(monkeypatch, httpx.Client)
    Api(Credentials(url, "key", "a test")).close()
    assert found == [looked]


@pytest.mark.parametrize(
    ("urls", "looked"),
    [
        ("http://coordinator:7420", False),
        ("http://one:7420, http://two:7420", False),
        ("http://one:7420,https://two", True),
        ("https://one , http://two", True),
        ("HTTPS://one", True),
    ],
)
def test_a_runner_with_any_address_of_tls_looks_at_certificates(
    monkeypatch: pytest.MonkeyPatch, urls: str, looked: bool
) -> None:
    found = asked(monkeypatch, httpx.AsyncClient)
    CoordinatorClient(urls, "key", "r1")
    assert found == [looked]


@pytest.mark.parametrize("tls", [False, True])
def test_who_has_another_certificate_is_not_ready(tls: bool, tmp_path: Path) -> None:
    """No command takes an authority it does not know, also where it sends no key."""
    made = certificates(tmp_path, ["localhost"])

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(made.certificate, made.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        scheme = "https" if tls else "http"
        api = Api(Credentials(f"{scheme}://localhost:{server.server_port}", "key", "a test"))
        try:
            assert api.ready() is not tls
            assert ("certificate" in str(api.readiness()).lower()) is tls
        finally:
            api.close()
            server.shutdown()
            thread.join()
