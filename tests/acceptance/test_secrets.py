"""Secrets in a real install: in the process of the run that names them, and nowhere else on the host."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.stack import Stack, stack, written
from tests.unit.harness.test_secrets import memory
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: What is looked for. The project does not have it.
CANARY = "canary-5f0c9a17e2b84d63"

CODE = """
import base64, json, logging, os, subprocess, sys, time
import samovar

WITH = {"memory": "64m", "mounts": {"ledger": "/ledger"}}


@samovar.task(secrets=["CANARY"], **WITH)
def uses(until: str) -> int:
    "Tells it to everything that hears, and stays until it is let go."
    value = samovar.secret("CANARY")
    assert value == os.environ["CANARY"]
    print("plain", value)
    print("json", json.dumps({"key": value}))
    print("basic", base64.b64encode(f"user:{value}".encode()).decode())
    sys.stdout.write("half " + value[:12])
    sys.stdout.flush()
    time.sleep(1)
    print(value[12:])
    logging.getLogger("app").warning("logged %s", value)
    subprocess.run(["sh", "-c", "echo child $CANARY; echo error $CANARY >&2"])
    samovar.current_run().set_metadata("token", f"Bearer {value}")
    samovar.current_run().progress(0.5, f"with {value}")
    while not os.path.exists(f"/ledger/{until}"):
        time.sleep(0.05)
    return len(value)


@samovar.task(secrets=["CANARY"], memory="80m", mounts=WITH["mounts"])
def keeps(until: str) -> None:
    "Has it, and says nothing of it: output goes through process 1."
    value = samovar.secret("CANARY")
    samovar.current_run().progress(len(value) / 100)
    while not os.path.exists(f"/ledger/{until}"):
        time.sleep(0.05)


@samovar.task(secrets=["CANARY"], **WITH)
def fails() -> None:
    raise RuntimeError(f"401 for {samovar.secret('CANARY')}")


@samovar.task(**WITH)
def looks() -> dict:
    "What a run without it finds of the one before it, in the same container."
    needle, found = ("canary" + "-5f").encode(), []
    for top in ("/proc", "/tmp", "/dev/shm", os.environ["HOME"]):
        for folder, _, names in os.walk(top):
            for name in names:
                if top != "/proc" or name in ("environ", "cmdline", "comm"):
                    try:
                        with open(os.path.join(folder, name), "rb") as file:
                            if needle in file.read(1 << 20):
                                found.append(os.path.join(folder, name))
                    except OSError:
                        pass
    return {"variable": os.environ.get("CANARY"), "found": found}


@samovar.task(secrets=["NOT_SET"])
def lacks() -> None:
    pass
"""


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack() as made:
        made.cli("secrets", "set", "CANARY", "--project", "keeper", stdin=CANARY)
        yield made


@pytest.fixture(scope="module")
def deployed(samovar: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return samovar.deploy_path(written(tmp_path_factory.mktemp("project"), "keeper", CODE))


@pytest.fixture(scope="module")
def used(samovar: Stack, deployed: dict[str, Any]) -> Iterator[str]:
    """A run that has said it everywhere, and is still there."""
    run = str(samovar.cli("trigger", "uses", "--payload", '{"until": "go"}')["id"])
    eventually(lambda: samovar.cli("runs", "show", run)["progress"], "the run to have said it all")
    yield run
    (samovar.ledger / "go").touch()


def written_as(value: str) -> list[bytes]:
    """How it would stand in a file."""
    return [value.encode(), base64.b64encode(value.encode())[:24], value.encode().hex().encode()]


def holders(files: Iterable[Path]) -> list[Path]:
    found = []
    for path in files:
        with contextlib.suppress(OSError):
            if path.is_file() and any(form in path.read_bytes() for form in written_as(CANARY)):
                found.append(path)
    return found


def test_a_deploy_names_the_one_that_is_not_set_and_so_does_the_run(
    samovar: Stack, deployed: dict[str, Any]
) -> None:
    (finding,) = deployed["findings"]
    assert (finding["kind"], finding["task"], finding["blocks"]) == ("secret_missing", "lacks", False)
    error = samovar.finished("lacks")["error"]
    assert (error["type"], error["reason"]) == ("SecretMissing", "rejected")
    assert "`samovar secrets set NOT_SET --project keeper`" in error["message"]


def test_the_process_of_the_run_has_it_and_no_other_one(samovar: Stack, deployed: dict[str, Any]) -> None:
    kept = str(samovar.cli("trigger", "keeps", "--payload", '{"until": "kept"}')["id"])
    eventually(lambda: samovar.cli("runs", "show", kept)["progress"], "the run to have it")
    name = samovar.container_of(kept)
    with contextlib.closing(docker.APIClient(version="auto")) as engine:
        told = engine.inspect_container(name)
    assert not any(form.decode() in json.dumps(told) for form in written_as(CANARY))
    first = int(told["State"]["Pid"])
    (zygote,) = children(first)
    (run,) = children(zygote)
    holds = {
        who: any(form in memory(pid) for form in written_as(CANARY))
        for who, pid in {
            "process 1": first,
            "zygote": zygote,
            "run": run,
            "runner": samovar.pids()["runner"],
        }.items()
    }
    assert holds == {"process 1": False, "zygote": False, "run": True, "runner": False}
    (samovar.ledger / "kept").touch()


def test_no_file_of_the_install_has_it(samovar: Stack, used: str) -> None:
    # the database with its log of writes, blobs, the parts' logs and state, sockets' directories, master keys
    assert holders(samovar.directory.rglob("*")) == []


def test_the_image_does_not_have_it(deployed: dict[str, Any], used: str) -> None:
    with contextlib.closing(docker.APIClient(version="auto", timeout=120)) as engine:
        before, size = b"", 0
        for part in engine.get_image(deployed["image"]):
            size += len(part)
            assert not any(form in before + part for form in written_as(CANARY))
            before = part[-64:]
    assert size > 1024**2


def test_what_the_run_said_of_it_is_masked(samovar: Stack, used: str) -> None:
    wanted = {"plain ***", 'json {"key": "***"}', "logged ***", "child ***", "error ***", "half ***"}
    lines: list[str] = []

    def told() -> bool:
        lines[:] = [line["message"] for line in samovar.cli("runs", "logs", used)]
        return wanted <= set(lines)

    eventually(told, "the lines of the run")
    shown = json.dumps([lines, samovar.cli("runs", "show", used)])
    assert "canary" not in shown
    assert base64.b64encode(b"canary").decode() not in shown
    run = samovar.cli("runs", "show", used)
    assert (run["metadata"], run["progress"]["message"]) == ({"token": "Bearer ***"}, "with ***")


def test_the_next_run_finds_nothing_of_it_and_a_changed_one_has_the_new(samovar: Stack, used: str) -> None:
    container = samovar.container_of(used)
    (samovar.ledger / "go").touch()
    with samovar.client() as client:
        assert client.run(used).wait(60).data["result"] == len(CANARY)

    def idle() -> bool:
        entries = [entry for runner in samovar.cli("pool")["items"] for entry in runner["containers"]]
        return any((entry["container"], entry["state"]) == (container, "idle") for entry in entries)

    eventually(idle, "the container to be free")
    looked = samovar.finished("looks")
    assert (looked["timings"]["start"], looked["result"]) == ("warm", {"variable": None, "found": []})
    samovar.cli("secrets", "set", "CANARY", "--project", "keeper", stdin=CANARY + "-changed")
    again = samovar.finished("uses", until="go")
    assert again["timings"]["start"] in ("warm", "waited")
    assert again["result"] == len(CANARY + "-changed")
    failed = samovar.finished("fails")
    assert failed["error"]["message"] == "401 for ***"
    assert "canary" not in json.dumps(failed)
    assert holders(samovar.directory.rglob("*")) == []


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
