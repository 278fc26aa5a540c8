"""What stands before a coordinator: checks that ask with HEAD, and a real nginx that gathers what it can."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.unit.coordinator.conftest import ADMIN, Api, error, ok
from tests.waiting import eventually

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/openapi.json", "/api/v1/runs", "/api/v1/runs/{run}", "/api/v1/queues?project=orders"],
)
def test_head_answers_what_get_does_without_a_body(api: Api, path: str) -> None:
    api.deploy()
    path = path.format(run=api.trigger()["id"])
    get, head = api.admin.get(path), api.admin.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


def test_head_is_held_to_keys_and_finds_no_more_than_get(api: Api) -> None:
    with api.client(None) as anybody:
        assert anybody.head("/api/v1/runs").status_code == 401
        assert anybody.head("/healthz").status_code == 200
    assert api.admin.head("/api/v1/runs/run_none").status_code == 404
    assert api.admin.head("/api/v1/runs/cancel").status_code == 404
    assert api.admin.head("/tokens/tok_none").status_code == 405
    error(api.admin.get("/tokens/tok_none"), 405, "method_not_allowed")


def test_head_of_a_stream_ends_with_its_headers_and_leaves_the_connection_whole(api: Api) -> None:
    api.deploy()
    run = api.trigger()["id"]
    for _ in range(3):
        head = api.admin.head(f"/api/v1/runs/{run}/stream", timeout=10)
        assert head.headers["content-type"].startswith("text/event-stream")
        assert head.headers["x-accel-buffering"] == "no"
        assert set(head.headers["cache-control"].split(", ")) == {"no-store", "no-transform"}
        assert api.admin.get("/healthz").status_code == 200


@contextmanager
def nginx(directory: Path, upstream: str) -> Iterator[str]:
    """The URL of an nginx before `upstream`, that gathers and packs as it does by default."""
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
        events {{}}
        http {{
            access_log off; {temporary}
            gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/event-stream application/json;
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass {upstream}; }}
            }}
        }}
        """
    )
    # the workers have a user of their own, who may not read what only this one may
    directory.chmod(0o755)
    process = subprocess.Popen([str(NGINX), "-p", str(directory), "-c", str(directory / "nginx.conf")])
    url = f"http://127.0.0.1:{port}"
    try:

        def answers() -> bool:
            assert process.poll() is None, (directory / "error.log").read_text()
            try:
                return httpx.get(f"{url}/healthz", trust_env=False).is_success
            except httpx.TransportError:
                return False

        eventually(answers, "nginx to answer")
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(NGINX is None, reason="no nginx: apt-get install nginx-light")
def test_a_stream_comes_through_nginx_as_it_is_said(api: Api, tmp_path: Path) -> None:
    directory = tmp_path / "nginx"
    directory.mkdir()
    api.deploy()
    run = api.trigger()["id"]
    with nginx(directory, api.url) as url, httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        with client.stream("GET", f"/api/v1/runs/{run}/stream", headers=headers) as answer:
            lines = answer.iter_lines()
            # each comes while the run is where it says: held back, they would come with its end
            assert any('"queued"' in line for line in lines)
            assignment = api.claim_one()
            ok(api.attempt(assignment, "start", start="cold"))
            assert any('"running"' in line for line in lines)
            said = {"seq": 0, "at": 1.0, "level": "info", "stream": "stdout", "message": "half-way"}
            ok(api.attempt(assignment, "logs", lines=[said]))
            assert any("half-way" in line for line in lines)
            ok(api.attempt(assignment, "finish", outcome="completed", result=1))
            assert any('"completed"' in line for line in lines)
        assert client.head("/healthz").status_code == 200
