"""`samovar tasks` and `samovar errors`, against a coordinator of its own process."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import Hand, Install
from tests.unit.cli.test_commands import deploy
from tests.waiting import eventually


def test_an_error_is_listed_shown_resolved_and_muted(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    trace = 'Traceback (most recent call last):\n  File "/app/demo.py", line 3, in greet\nValueError: no\n'
    hand.error = {"type": "ValueError", "message": "it is broken", "traceback": trace}
    run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait", code=1)["id"]
    fingerprint = install.json("runs", "show", run)["error"]["fingerprint"]
    assert fingerprint in install.samovar("runs", "show", run).out
    assert run in [item["id"] for item in install.json("runs", "list", "--error", fingerprint)["items"]]

    def counted() -> bool:
        items = install.json("errors", "list", "--project", "demo")["items"]
        return fingerprint in [item["fingerprint"] for item in items]

    eventually(counted, "the error is counted")
    assert "ValueError: it is broken" in install.samovar("errors", "list", "--project", "demo").out
    shown = install.samovar("errors", "show", f"demo/{fingerprint}")
    assert run in shown.out
    assert f"runs replay --error {fingerprint}" in shown.err
    assert "resolved in" in install.samovar("errors", "resolve", fingerprint, "--project", "demo").out
    assert install.json("errors", "reopen", f"demo/{fingerprint}")["status"] == "open"
    assert install.json("errors", "mute", f"demo/{fingerprint}", "--until", "7d")["status"] == "muted"
    assert fingerprint in install.samovar("errors", "list", "--project", "demo", "--status", "muted").out
    assert "say of which project" in install.samovar("errors", "show", fingerprint, code=2).err
    assert "there is no error" in install.samovar("errors", "show", "demo/none", code=4).err
    (task,) = install.json("tasks", "demo/greet")["items"]
    assert task["figures"]["failed"] >= 1
    assert "demo/greet" in install.samovar("tasks", "--window", "7d").out
