"""Commands against a real coordinator: what they print, where, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.conftest import Hand, Install
from tests.waiting import eventually


def deploy(install: Install, hand: Hand, project: Path) -> None:
    install.samovar("deploy", str(project))


def test_deploy_streams_the_log_and_prints_the_tasks(install: Install, hand: Hand, project: Path) -> None:
    result = install.samovar("deploy", str(project))
    assert "step one [bold]" in result.err
    assert "greet" in result.out
    document = install.json("deploy", str(project))
    assert set(document) == {"project", "version", "image", "tasks", "findings"}
    assert document["project"] == "demo"
    assert [task["id"] for task in document["tasks"]] == ["greet"]
    assert hand.sources[0] == hand.sources[1]


def test_a_failed_build_prints_its_problem_with_every_field(install: Install, hand: Hand, project: Path) -> None:
    hand.fail_build = {
        "code": "requirement_not_found",
        "message": "the requirement 'nope' cannot be installed",
        "fields": [{"path": "requirements.txt:3", "message": "no such package"}],
    }
    result = install.samovar("deploy", str(project), code=2)
    assert "the requirement 'nope' cannot be installed" in result.err
    assert "requirements.txt:3: no such package" in result.err
    assert install.json("deploy", str(project), code=2) == {"error": hand.fail_build}


def test_a_directory_without_a_project_is_refused_before_anything_is_sent(install: Install, tmp_path: Path) -> None:
    assert "samovar init" in install.samovar("deploy", str(tmp_path), code=2).err


def test_trigger_prints_the_run_and_a_repeated_key_prints_the_same(
    install: Install, hand: Hand, project: Path
) -> None:
    deploy(install, hand, project)
    arguments = ("trigger", "greet", "--payload", '{"name": "you"}', "--idempotency-key", "k1", "--tag", "a")
    first, second = install.json(*arguments), install.json(*arguments)
    assert first["id"] == second["id"]
    assert first["tags"] == ["a"]
    assert install.samovar(*arguments).out.strip() == first["id"]


def test_trigger_wait_prints_the_result_and_follow_the_logs(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    arguments = ("trigger", "demo/greet", "--payload", "-")
    waited = install.samovar(*arguments, "--wait", stdin='{"name": "you"}')
    assert json.loads(waited.out) == {"greeting": "Hello, you!"}
    assert "completed" in waited.err
    followed = install.samovar(*arguments, "--follow", stdin='{"name": "you"}')
    assert followed.out.splitlines()[0] == "from the task"
    run = install.samovar(*arguments, "--follow", "--json", stdin='{"name": "you"}')
    assert run.document["status"] == "completed"
    assert "from the task" in run.err


def test_a_run_that_fails_ends_with_1_and_shows_its_traceback(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    hand.error = {
        "type": "ValueError",
        "message": "no [such] order",
        "traceback": "File x, line 3",
        "reason": "exception",
    }
    arguments = ("trigger", "greet", "--payload", '{"name": "you"}', "--wait")
    result = install.samovar(*arguments, code=1)
    assert "ValueError: no [such] order" in result.err
    assert "File x, line 3" in result.err
    assert install.json(*arguments, code=1)["error"]["type"] == "ValueError"


def test_a_wrong_payload_is_refused_with_each_field(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    error = install.json("trigger", "greet", "--payload", '{"nam": 1}', code=2)["error"]
    assert {field["path"] for field in error["fields"]} == {"nam", "name"}
    assert "name: missing" in install.samovar("trigger", "greet", "--payload", '{"nam": 1}', code=2).err


def test_a_payload_that_is_no_json_is_refused_here(install: Install, tmp_path: Path) -> None:
    for payload, words in [
        ("{", "not JSON"),
        ("[1]", "by name"),
        ('{"x": NaN}', "NaN"),
        (f"@{tmp_path}/gone.json", "cannot be read"),
    ]:
        error = install.json("trigger", "greet", "--payload", payload, code=2)["error"]
        assert words in error["message"]
        assert error["fields"][0]["path"] == "payload"
    assert "--delay" in install.samovar("trigger", "greet", "--delay", "soon", code=2).err


def test_what_is_not_there_ends_with_4(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    assert "did you mean 'greet'" in install.samovar("trigger", "gret", code=4).err
    for arguments in (
        ["runs", "show"],
        ["runs", "logs"],
        ["runs", "cancel"],
        ["runs", "wait"],
        ["runs", "trace"],
        ["checkpoints"],
    ):
        assert install.json(*arguments, "run_none", code=4)["error"]["message"]
    install.samovar("deployments", "promote", "20000101.1", "--project", "demo", code=4)


def test_runs_are_listed_shown_and_replayed(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait", "--tag", "listed")["id"]
    assert [item["id"] for item in install.json("runs", "list", "--tag", "listed")["items"]] == [run]
    assert install.json("runs", "list", "--tag", "listed", "--status", "failed") == {"items": [], "next": None}
    assert run in install.samovar("runs", "list", "--since", "1h").out
    shown = install.samovar("runs", "show", run).out
    assert "completed" in shown
    assert "hand" in shown
    assert "1 info" in shown
    assert install.json("runs", "show", run)["id"] == run
    assert [item["number"] for item in install.json("runs", "attempts", run)["items"]] == [1]
    assert [line["message"] for line in install.json("runs", "logs", run)] == ["from the task"]
    assert install.samovar("runs", "logs", run, "--follow").out == "from the task\n"
    assert [item["key"] for item in install.json("checkpoints", run)["items"]] == ["greeting"]
    assert "Hello, you!" in install.samovar("checkpoints", run).out
    trace = install.json("runs", "trace", run)
    assert [span["name"] for span in trace["spans"] if span["kind"] == "checkpoint"] == ["greeting"]
    drawn = install.samovar("runs", "trace", run).out
    assert all(text in drawn for text in ("  attempt 1", "greeting (", "ran", "█")), drawn
    replayed = install.json("runs", "replay", run, "--payload", '{"name": "me"}', "--wait")
    assert replayed["id"] != run
    assert replayed["result"] == {"greeting": "Hello, me!"}
    assert install.json("runs", "wait", run)["status"] == "completed"
    assert "--since" in install.samovar("runs", "list", "--since", "yesterday", code=2).err


def test_what_a_run_reached_is_shown_with_it(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    plain = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait")["id"]
    assert "reached" not in install.samovar("runs", "show", plain).out
    hand.egress = [
        {
            "host": "api.example.com",
            "port": 443,
            "connections": 3,
            "sent": 2048,
            "received": 5 * 2**20,
            "seconds": 7,
        },
        {"host": "evil.example.com", "port": 22, "refused": 2, "reason": "not in the task's network"},
        {"host": "others", "port": 0, "refused": 9, "reason": "not allowed"},
    ]
    try:
        run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait")["id"]
    finally:
        hand.egress = []
    shown = install.samovar("runs", "show", run).out
    for text in (
        "api.example.com:443",
        "2 KiB",
        "5 MiB",
        "7 s",
        "evil.example.com:22",
        "2: not in",
        "9: not allowed",
    ):
        assert text in shown, (text, shown)
    (attempt,) = install.json("runs", "attempts", run)["items"]
    assert [host["host"] for host in attempt["egress"]] == ["api.example.com", "evil.example.com", "others"]


def test_a_run_that_has_not_started_can_be_canceled(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--delay", "1h")
    assert run["status"] == "delayed"
    assert install.json("runs", "wait", run["id"], "--timeout", "100ms", code=1)["status"] == "delayed"
    assert install.json("runs", "cancel", run["id"])["status"] == "canceled"
    assert install.samovar("runs", "wait", run["id"], code=1).code == 1


def test_many_runs_are_left_to_the_server_and_taken_back(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--delay", "1h", "--tag", "late")["id"]
    asked = install.json("runs", "cancel", "--tag", "late", "--grace", "1h")
    assert (asked["status"], asked["expected"]) == ("waiting", 1)
    assert "nothing was done" in install.samovar("bulk", "take-back", asked["id"]).out
    assert install.json("runs", "show", run)["status"] == "delayed"
    begun = install.samovar("runs", "replay", run, "--grace", "0s")
    id = begun.out.strip()
    assert f"samovar bulk take-back {id}" in begun.err
    eventually(lambda: install.json("bulk", "show", id)["status"] == "done", "the server to do it")
    assert "it is delayed: only a run that has ended" in install.samovar("bulk", "show", id).out
    assert install.json("bulk", "show", id)["not_done"][0]["run"] == run
    assert [one["id"] for one in install.json("bulk", "list")["items"]] == [id, asked["id"]]
    assert "taken back" in install.samovar("bulk", "list").out
    install.json("runs", "cancel", run)


def test_many_runs_are_canceled_replayed_and_dismissed(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    ids = [
        install.json("trigger", "greet", "--payload", '{"name": "you"}', "--delay", "1h", "--tag", "many")["id"]
        for _ in range(3)
    ]
    assert len(install.json("runs", "cancel", "--tag", "many", "--dry-run")["items"]) == 3
    assert "nothing was changed" in install.samovar("runs", "cancel", "--tag", "many", stdin="n\n").err
    assert {item["status"] for item in install.json("runs", "list", "--tag", "many")["items"]} == {"delayed"}
    canceled = install.json("runs", "cancel", *ids[:2])["items"]
    assert [(item["run"], item["status"]) for item in canceled] == [(id, "canceled") for id in reversed(ids[:2])]
    assert ids[2] in install.samovar("runs", "cancel", "--tag", "many", "--status", "delayed", "--yes").out
    replayed = install.json("runs", "replay", "--tag", "many")["items"]
    assert len({item["replay"] for item in replayed}) == 3
    assert "is for the replay of one run" in install.samovar("runs", "replay", *ids, "--wait", code=2).err
    assert "say which runs" in install.samovar("runs", "dismiss", code=2).err


def test_a_failed_run_is_a_dead_letter_until_it_is_dismissed(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    hand.error = {"type": "ValueError", "message": "no"}
    run = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait", "--tag", "bad", code=1)["id"]
    listing = ("runs", "list", "--dead-letter", "--tag", "bad")
    assert [item["id"] for item in install.json(*listing)["items"]] == [run]
    assert install.json("runs", "dismiss", run)["dead_letter"] is False
    assert install.json(*listing)["items"] == []


def test_versions_are_listed_promoted_and_rolled_back(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    second = install.json("deploy", str(project), "--no-promote")["version"]
    listed = install.json("deployments", "list", "--project", "demo")["items"]
    assert listed[0]["version"] == second
    assert not listed[0]["current"]
    first = next(item["version"] for item in listed if item["current"])
    assert install.json("deployments", "promote", second, "--project", "demo")["version"] == second
    assert install.json("deployments", "rollback", "--project", "demo")["version"] == first
    assert second in install.samovar("deployments", "list").out


def test_the_pool_names_its_runner(install: Install, hand: Hand) -> None:
    assert "hand" in install.samovar("pool").err
    assert install.json("pool")["items"][0]["runner"] == "hand"
    found = install.json("pool", "--what-if")
    assert len(found["points"]) == (8 if found["runs"] else 0)
    shown = install.samovar("pool", "--what-if")
    assert "starts since" in shown.out if found["runs"] else "in the last 24 hours" in shown.err


def test_json_stands_before_the_command_or_after_it(install: Install) -> None:
    assert install.samovar("--json", "runs", "list").document == install.json("runs", "list")


def test_usage_errors_end_with_2_and_are_a_document_with_json(install: Install) -> None:
    assert install.samovar("runs", "list", "--nonsense", code=2).out == ""
    assert "--nonsense" in install.json("runs", "list", "--nonsense", code=2)["error"]["message"]
    install.samovar("nonsense", code=2)


def test_no_coordinator_ends_with_3(install: Install, tmp_path: Path) -> None:
    away = Install(tmp_path, "http://127.0.0.1:9", {})
    assert away.json("runs", "list", code=3)["error"]["code"] == "no_credentials"
    flags = ("--url", "http://127.0.0.1:9", "--api-key", "k")
    assert away.json("runs", "list", *flags, code=3)["error"]["code"] == "unreachable"
    assert "samovar up" in away.samovar("runs", "list", *flags, code=3).err


def test_a_wrong_key_is_refused(install: Install) -> None:
    error = install.json("runs", "list", "--url", install.url, "--api-key", "wrong", code=2)["error"]
    assert "key" in error["message"]


def test_the_key_of_one_install_is_not_sent_to_another(install: Install) -> None:
    error = install.json("runs", "list", "--url", "http://127.0.0.1:9", code=2)["error"]
    assert error["code"] == "no_credentials"


def test_init_writes_a_project_and_overwrites_nothing(install: Install, hand: Hand, tmp_path: Path) -> None:
    document = install.json("init", str(tmp_path / "My Project"))
    assert document["project"] == "my-project"
    assert "samovar.toml" in install.samovar("init", str(tmp_path / "My Project"), code=2).err
    assert install.json("deploy", str(tmp_path / "My Project"))["project"] == "my-project"
    assert (
        install.json("init", str(tmp_path / "x"), "--name", "No!", code=2)["error"]["fields"][0]["path"] == "name"
    )


def test_doctor_checks_each_part_and_names_what_fails(install: Install, hand: Hand) -> None:
    checks = {check["name"]: check for check in install.json("doctor")["items"]}
    assert checks["coordinator"]["status"] == "ok"
    assert checks["runners"]["status"] == "ok"
    assert checks["docker"]["status"] == "ok"
    broken = Install(install.data, install.url, {"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    result = broken.samovar("doctor", code=1)
    assert "fail  docker" in result.out
    assert "/nowhere/docker.sock" in result.out


def test_queues_are_listed_changed_and_explain_what_waits(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    assert install.json("queues", "list", "--project", "demo")["items"][0]["name"] == "task/greet"
    assert "task/greet" in install.samovar("queues", "list").out
    paused = install.json("queues", "pause", "task/greet", "--project", "demo")
    assert paused["paused"]
    run = install.samovar("trigger", "demo/greet", "--payload", '{"name": "you"}').out.strip()
    assert "its queue 'task/greet' is paused" in install.samovar("runs", "why", run).out
    assert install.json("runs", "why", run)["reason"] == "paused"
    changed = install.samovar("queues", "set", "task/greet", "--concurrency", "3", "--project", "demo")
    assert "limit 3 (in the code: none)" in changed.out
    assert install.json("queues", "set", "task/greet", "--reset", "--project", "demo")["overridden"] is False
    assert not install.json("queues", "resume", "task/greet", "--project", "demo")["paused"]
    assert install.json("runs", "wait", run)["status"] == "completed"


def test_a_wrong_change_of_a_queue_is_refused(install: Install, hand: Hand, project: Path) -> None:
    deploy(install, hand, project)
    refused = install.json("queues", "set", "task/greet", "--concurrency", "0", code=2)
    assert refused["error"]["fields"][0]["path"] == "concurrency"
    assert "--reset" in install.samovar("queues", "set", "task/greet", code=2).err
    assert "there are task/greet" in install.samovar("queues", "pause", "grete", code=4).err
    install.samovar("runs", "why", "run_none", code=4)
    assert "belong together" in install.samovar("trigger", "greet", "--debounce", "5s", code=2).err


def test_a_deploy_that_leaves_runs_behind_is_promoted_with_force_only(
    install: Install, hand: Hand, project: Path
) -> None:
    first = install.json("deploy", str(project))["version"]
    task = install.json("trigger", "demo/greet", "--payload", '{"name": "Ada"}', "--delay", "1h")["task"]
    hand.tasks = [{**entry, "id": "renamed"} for entry in hand.tasks[:1]]
    refused = install.samovar("--json", "deploy", str(project), code=2)
    error = json.loads(refused.out)["error"]
    assert (error["code"], [field["path"] for field in error["fields"]]) == ("breaks_runs", [task])
    second = install.json("deployments", "list", "--project", "demo")["items"][0]["version"]
    assert f"promote {second} --force" in error["message"]
    assert install.json("deployments", "list", "--project", "demo")["items"][1]["current"] is True

    given = ("deployments", "promote", second, "--project", "demo")
    assert "breaks_runs" in install.samovar("--json", *given, code=2).out
    shown = install.samovar(*given, "--force")
    assert "is not in this version, and 1 run of it is under way" in shown.err
    assert install.json("deploy", str(project), "--force")["findings"][0]["kind"] == "task_gone"
    assert first != second


def test_a_key_is_told_to_be_an_earlier_runs_and_is_given_back(install: Install, hand: Hand, project: Path) -> None:
    install.json("deploy", str(project))
    arguments = (
        "trigger",
        "demo/greet",
        "--payload",
        '{"name": "Ann"}',
        "--idempotency-key",
        "order-1",
        "--delay",
        "1h",
    )
    first = install.samovar(*arguments, "--idempotency-ttl", "1h", "--json")
    assert "nothing was started" not in first.err
    run = first.document["id"]
    assert first.document["idempotency_key"] == "order-1"
    again = install.samovar(*arguments, "--json")
    assert again.document["id"] == run
    said = " ".join(again.err.split())
    assert "nothing was started: this key's run is an earlier one" in said
    assert f"samovar runs release-key {run}" in said
    assert install.json("runs", "release-key", run)["idempotency_key"] is None
    assert "no idempotency key" in install.samovar("runs", "release-key", run, code=2).err
    other = install.json(*arguments)["id"]
    assert other != run
    # canceled before it started, the second gives the key back by itself
    install.json("runs", "cancel", other)
    assert install.json(*arguments)["id"] not in (run, other)


def test_a_run_is_put_at_the_front(install: Install, hand: Hand, project: Path) -> None:
    install.json("deploy", str(project))
    install.json("queues", "pause", "task/greet", "--project", "demo")
    try:
        runs = [install.json("trigger", "demo/greet", "--payload", '{"name": "Ann"}')["id"] for _ in range(3)]
        assert install.json("runs", "bump", runs[2])["status"] == "queued"
        assert "is next in its queue" in install.samovar("runs", "bump", runs[2]).out
    finally:
        install.json("queues", "resume", "task/greet", "--project", "demo")
    done = {run: install.json("runs", "wait", run)["started_at"] for run in runs}
    assert done[runs[2]] <= done[runs[0]]
    assert "only a queued one" in install.samovar("runs", "bump", runs[2], code=2).err
