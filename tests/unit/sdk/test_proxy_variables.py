"""The variables by which clients find the proxy of a container, where it is told of one."""

from __future__ import annotations

import json
import os

import pytest
from samovar import wire
from samovar.environment import network

TOLD = json.dumps(
    {"proxy": "127.0.0.1:3128", "relays": [["127.0.0.2", 5432, "db.internal"]], "direct": ["db.internal"]}
)
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, wire.EGRESS_VARIABLE):
        monkeypatch.setenv(name, "of the image")
    monkeypatch.setattr(network, "current", network.current)


def test_clients_of_every_habit_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.EGRESS_VARIABLE, TOLD)
    network.prepare({})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert os.environ[name] == "http://127.0.0.1:3128"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "localhost,127.0.0.1,::1,db.internal"
    assert wire.EGRESS_VARIABLE not in os.environ
    assert network.current.hosts == ["db.internal:5432"]


def test_what_the_project_sets_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.EGRESS_VARIABLE, TOLD)
    monkeypatch.setenv("HTTPS_PROXY", "http://own.example:8080")
    network.prepare({"HTTPS_PROXY": "http://own.example:8080"})
    assert os.environ["HTTPS_PROXY"] == "http://own.example:8080"
    assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:3128"


def test_without_a_proxy_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(wire.EGRESS_VARIABLE)
    network.prepare({})
    assert {os.environ[name] for name in NAMES} == {"of the image"}
    assert network.current.proxy is None
