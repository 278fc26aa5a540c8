"""`samovar secrets` against a real coordinator."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from coordinator.access.vault import Sealed, Vault
from tests.unit.cli.conftest import Install


def test_set_list_and_rm(install: Install) -> None:
    assert "samovar secrets set NAME" in install.samovar("secrets", "list").err
    done = install.samovar("secrets", "set", "STRIPE", "--project", "demo", stdin="sk_live_1\n")
    assert "STRIPE of demo is set" in done.err
    secret = install.json("secrets", "set", "STRIPE", stdin="sk_live_2")
    assert (secret["name"], secret["project"]) == ("STRIPE", None)
    listed = install.json("secrets", "list")["items"]
    assert [item["project"] for item in listed] == [None, "demo"]
    shown = install.samovar("secrets", "list").out
    assert "STRIPE" in shown
    assert "sk_live" not in done.out + done.err + shown + str(listed)
    assert install.json("secrets", "rm", "STRIPE", "--project", "demo") == listed[1]
    gone = install.json("secrets", "rm", "STRIPE", "--project", "demo", code=4)["error"]
    assert "there is one of every project" in gone["message"]
    assert "removed" in install.samovar("secrets", "rm", "STRIPE").err


def test_an_empty_value_and_a_bad_name_are_refused(install: Install) -> None:
    for nothing in ("", "\n", "\r\n"):
        refused = install.json("secrets", "set", "KEY", stdin=nothing, code=2)["error"]
        assert refused["fields"][0]["path"] == "value"
    assert install.json("secrets", "set", "MY-KEY", stdin="v", code=2)["error"]["fields"][0]["path"] == "name"
    assert install.json("secrets", "list")["items"] == []


def test_what_a_file_sets_is_set(install: Install, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# of the shop\nexport STRIPE=sk$live#1\nPEM=\"line 1\nline 2\"\n\nQUOTED='a b' # said\n")
    done = install.json("secrets", "set", "--env-file", str(file), "--project", "demo")["items"]
    assert [item["name"] for item in done] == ["STRIPE", "PEM", "QUOTED"]
    assert all(item["project"] == "demo" for item in done)
    values = {name: opened(install, "demo", name) for name in ("STRIPE", "PEM", "QUOTED")}
    assert values == {"STRIPE": "sk$live#1", "PEM": "line 1\nline 2", "QUOTED": "a b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("KEY\n", "line 1"),
        ("A=1\nKEY=\n", "line 2"),
        ("A=1\nsk live oops\n", "line 2"),
        ("# none\n", "sets nothing"),
    ],
)
def test_a_file_that_says_something_else_sets_nothing(
    install: Install, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / ".env"
    file.write_text(text)
    message = install.json("secrets", "set", "--env-file", str(file), code=2)["error"]["message"]
    assert words in message
    assert "oops" not in message
    assert "A" not in [item["name"] for item in install.json("secrets", "list")["items"]]


def test_a_name_or_a_file_and_not_both(install: Install, tmp_path: Path) -> None:
    assert "--env-file" in install.json("secrets", "set", code=2)["error"]["message"]
    both = install.json("secrets", "set", "KEY", "--env-file", "x", stdin="v", code=2)["error"]["message"]
    assert "give a NAME" in both
    missing = install.json("secrets", "set", "--env-file", str(tmp_path / "none"), code=2)["error"]["message"]
    assert "No such file" in missing


def test_the_master_key_is_rotated(install: Install) -> None:
    install.json("secrets", "set", "KEPT", stdin="as it was")
    count = len(install.json("secrets", "list")["items"])
    assert "sealed with the new master key" in install.samovar("secrets", "rotate").err
    done = install.json("secrets", "rotate", "--drop-old")
    assert (done["sealed"], done["dropped"]) == (count, 2)
    assert opened(install, "", "KEPT") == "as it was"


def opened(install: Install, project: str, name: str) -> str:
    """The value that the coordinator has kept."""
    with sqlite3.connect(install.data / "coordinator.db") as database:
        row = database.execute(
            "SELECT key, nonce, data FROM secrets WHERE project = ? AND name = ?", (project, name)
        ).fetchone()
    return Vault(install.data / "master-keys").open(project, name, Sealed(*row))
