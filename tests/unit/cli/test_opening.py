"""`samovar open`: what it asks for, what it opens, and what it says where there is nothing to open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from samovar.cli.opening import has_display

from tests.plain import PLAIN
from tests.unit.cli.conftest import Hand, Install

RUN = "run_01m8kprppnxj3yxv1exkmhv73j"
LINK = {"url": "http://127.0.0.1:8020/login/once", "expires_at": "2026-01-31T12:15:00.000Z"}


@dataclass
class Coordinator:
    """Answers as it is told to: status and body by method and path."""

    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def answer(self, method: str, path: str, status: int, body: Any) -> None:
        self.answers[method, f"/api/v1{path}"] = (status, body if isinstance(body, str) else json.dumps(body))


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self, method: str) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length") or 0))
            made.asked.append((method, self.path, json.loads(sent) if sent else None))
            none = json.dumps({"error": {"code": "not_found", "message": f"{self.path}: Not Found", "fields": []}})
            status, body = made.answers.get((method, self.path), (404, none))
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            self.handle_one("GET")

        def do_POST(self) -> None:
            self.handle_one("POST")

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    made.answer("POST", "/dashboard/link", 201, LINK)
    made.answer("GET", f"/runs/{RUN}", 200, {"id": RUN})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join(10)
    server.server_close()


def opened(
    coordinator: Coordinator, *arguments: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command, started anew: where there is a display, is said by its environment."""
    here = {name: os.environ[name] for name in os.environ if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    done = subprocess.run(
        [sys.executable, "-m", "samovar.cli.main", "--url", coordinator.url, "--api-key", "k", "open", *arguments],
        env={**here, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def problem(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "fields": []}}


def browser(directory: Path, code: int = 0) -> tuple[str, Path]:
    """A program that notes what it is to open."""
    noted, program = directory / "noted", directory / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {noted}\nexit {code}\n')
    program.chmod(0o755)
    return f"{program} %s", noted


def test_without_a_display_it_prints_the_address(coordinator: Coordinator) -> None:
    done = opened(coordinator)
    assert done.stdout == LINK["url"] + "\n"
    assert LINK["expires_at"] in done.stderr
    assert coordinator.asked == [("POST", "/api/v1/dashboard/link", {"path": "/"})]


def test_with_one_it_opens_a_browser_and_prints_no_secret(coordinator: Coordinator, tmp_path: Path) -> None:
    command, noted = browser(tmp_path)
    done = opened(coordinator, RUN, BROWSER=command)
    assert noted.read_text() == LINK["url"]
    assert done.stdout == ""
    assert "/login/" not in done.stderr
    assert f"{coordinator.url}/runs/{RUN}" in done.stderr
    assert coordinator.asked[-1] == ("POST", "/api/v1/dashboard/link", {"path": f"/runs/{RUN}"})


def test_print_opens_nothing(coordinator: Coordinator, tmp_path: Path) -> None:
    command, noted = browser(tmp_path)
    assert opened(coordinator, "--print", BROWSER=command).stdout == LINK["url"] + "\n"
    assert json.loads(opened(coordinator, "--json", BROWSER=command).stdout) == LINK
    assert not noted.exists()


def test_where_the_browser_fails_it_prints_the_address(coordinator: Coordinator, tmp_path: Path) -> None:
    command, noted = browser(tmp_path, code=1)
    assert opened(coordinator, BROWSER=command).stdout == LINK["url"] + "\n"
    assert noted.exists()
    assert opened(coordinator, BROWSER="/nowhere/browser %s").stdout == LINK["url"] + "\n"


def test_a_run_that_is_not_there_is_said_and_no_link_is_made(coordinator: Coordinator) -> None:
    gone = {"error": {"code": "not_found", "message": "there is no run 'run_x/../y'", "fields": []}}
    coordinator.answer("GET", "/runs/run_x%2F..%2Fy", 404, gone)
    assert "there is no run" in opened(coordinator, "run_x/../y", code=4).stderr
    assert [method for method, _, _ in coordinator.asked] == ["GET"]


def test_a_coordinator_without_a_dashboard_says_what_to_do(coordinator: Coordinator) -> None:
    coordinator.answers.pop(("POST", "/api/v1/dashboard/link"))
    done = opened(coordinator, code=2)
    assert "no dashboard" in done.stderr
    assert "samovar top" in done.stderr
    document = json.loads(opened(coordinator, "--json", code=2).stdout)
    assert document["error"]["code"] == "no_dashboard"


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (
            403,
            {"error": {"code": "forbidden", "message": "takes one with the role admin", "fields": []}},
            2,
            "role",
        ),
        (401, problem("unauthenticated", "not known"), 2, "samovar doctor"),
        (
            503,
            {"error": {"code": "storage_unavailable", "message": "no storage now", "fields": []}},
            3,
            "no storage",
        ),
        (201, "<html>a login page of somebody's proxy", 3, "did not answer with JSON"),
        (201, {"address": "x"}, 2, "no address of a dashboard"),
        (201, [LINK], 2, "no address of a dashboard"),
        (201, {**LINK, "url": "javascript:alert(1)"}, 2, "no address of a dashboard"),
        (201, {**LINK, "url": "file:///etc/passwd"}, 2, "no address of a dashboard"),
        (201, {**LINK, "url": "-private-window"}, 2, "no address of a dashboard"),
    ],
)
def test_what_is_no_link_is_not_opened(
    coordinator: Coordinator, tmp_path: Path, status: int, body: Any, code: int, said: str
) -> None:
    command, noted = browser(tmp_path)
    coordinator.answer("POST", "/dashboard/link", status, body)
    assert said in opened(coordinator, code=code, BROWSER=command).stderr
    assert not noted.exists()


def test_a_coordinator_that_is_away_is_said() -> None:
    assert "no coordinator answers" in opened(Coordinator("http://127.0.0.1:9"), code=3).stderr


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "links %s"}, "linux", True),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "10.0.0.1 22"}, "darwin", False),
        ({"SSH_CONNECTION": "10.0.0.1 22", "DISPLAY": "localhost:10"}, "linux", True),
    ],
)
def test_a_display_is_known_by_the_environment(environment: dict[str, str], platform: str, expected: bool) -> None:
    assert has_display(environment, platform) is expected


def test_the_address_of_a_real_coordinator_signs_in_once(install: Install, hand: Hand, project: Path) -> None:
    install.samovar("deploy", str(project))
    run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait")["id"]
    url = install.samovar("open", run, "--print").out.strip()
    with httpx.Client(follow_redirects=True, **PLAIN) as browser:
        shown = browser.get(url)
        assert (shown.status_code, shown.url.path) == (200, f"/runs/{run}")
        assert run in shown.text
        assert browser.get(f"{install.url}/runs").status_code == 200
    with httpx.Client(follow_redirects=True, **PLAIN) as another:
        again = another.get(url)
        assert again.status_code == 401
        assert run not in again.text
