"""Where certificates are looked at: wherever the way to a coordinator has TLS, and nowhere else."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from samovar.cli.api import Api, Credentials

from runner.coordinator_client import CoordinatorClient
from runner.errors import CoordinatorAway
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


@contextmanager
def served(tmp_path: Path, tls: bool) -> Iterator[str]:
    """The address of a server that says yes to everything, with a certificate that nobody knows where `tls`."""
    made = certificates(tmp_path, ["localhost"])

    class Yes(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "18")
            self.end_headers()
            self.wfile.write(b'{"assignments":[]}')

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Yes) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(made.certificate, made.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("tls", [False, True])
def test_who_has_another_certificate_is_not_ready(tls: bool, tmp_path: Path) -> None:
    """No command takes an authority it does not know, also where it sends no key."""
    with served(tmp_path, tls) as url:
        api = Api(Credentials(url, "key", "a test"))
        assert api.ready() is not tls
        assert ("certificate" in str(api.readiness()).lower()) is tls
        api.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_runner_gives_its_key_to_no_authority_it_does_not_know(tls: bool, tmp_path: Path) -> None:
    async def asked(url: str) -> None:
        client = CoordinatorClient(url, "key", "r1")
        try:
            await client.adopt()
        finally:
            await client.close()

    with served(tmp_path, tls) as url:
        if tls:
            with pytest.raises(CoordinatorAway, match=r"(?i)certificate"):
                asyncio.run(asked(url))
        else:
            asyncio.run(asked(url))
