"""`samovar keys` against a real coordinator."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import Hand, Install


def test_create_use_list_and_revoke(install: Install, hand: Hand, project: Path) -> None:
    install.samovar("deploy", str(project))
    key = install.samovar("keys", "create", "frontend", "--project", "demo").out.strip()
    run = install.json("trigger", "greet", "--payload", '{"name": "Ada"}', "--url", install.url, "--api-key", key)
    assert run["project"] == "demo"
    refused = install.json("runs", "list", "--url", install.url, "--api-key", key, code=2)["error"]
    assert refused["code"] == "forbidden"
    listed = install.json("keys", "list")["items"]
    assert [(item["name"], item["role"], item["project"]) for item in listed][-1] == ("frontend", "trigger", "demo")
    shown = install.samovar("keys", "list").out
    assert "frontend" in shown
    assert key not in shown
    assert "revoked" in install.samovar("keys", "revoke", "frontend").err
    gone = install.json("trigger", "greet", "--url", install.url, "--api-key", key, code=2)["error"]
    assert gone["code"] == "unauthenticated"


def test_refusals(install: Install) -> None:
    assert install.json("keys", "create", "a b", code=2)["error"]["fields"][0]["path"] == "name"
    assert install.json("keys", "create", "k", "--role", "root", code=2)["error"]["fields"][0]["path"] == "role"
    assert install.json("keys", "create", "k", "--project", "none", code=4)["error"]["code"] == "unknown_project"
    assert install.json("keys", "revoke", "none", code=4)["error"]["code"] == "not_found"
    made = install.json("keys", "create", "ops", "--role", "admin")
    assert install.json("keys", "revoke", made["id"])["revoked_at"] is not None
