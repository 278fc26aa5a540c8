"""`samovar secrets` against a real coordinator."""

from __future__ import annotations

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
