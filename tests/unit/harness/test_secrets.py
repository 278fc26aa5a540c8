"""Secrets in a container: in the process of the run that they are for, and nowhere else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from tests.unit.harness.listener import Container

VALUE = "sk_live_5c1f0d3e9b7a"
TICKET = "7" * 64
CODE = """
import os, subprocess, sys
import samovar

@samovar.task(secrets=["KEY"])
def with_secret():
    child = subprocess.run([sys.executable, "-c", "import os; print(os.environ['KEY'])"], capture_output=True)
    return [samovar.secret("KEY"), os.environ["KEY"], child.stdout.decode().strip()]

@samovar.task
def without():
    try:
        samovar.secret("KEY")
    except samovar.SecretMissing as error:
        return [os.environ.get("KEY"), str(error)]
"""


@contextmanager
def counter(container: Container, answer: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The sidecar's socket for secrets; what it was asked."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as server:
        path = container.sidecar.path.parent / wire.RUN_SOCKET_NAME
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    asked.append(json.loads(peer.makefile("rb").readline()))
                    peer.sendall(wire.encode(answer))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    path.unlink()


@pytest.mark.parametrize("start", ["auto", "fresh"])
def test_a_run_has_its_secrets_and_the_next_one_has_none(container: Callable[..., Container], start: str) -> None:
    one = container(CODE)
    with counter(one, {"ok": True, "secrets": {"KEY": VALUE}}) as asked:
        given = one.run("with-secret", secrets=["KEY"], ticket=TICKET, start=start)
    assert given["result"] == [VALUE] * 3
    assert asked == [{"ticket": TICKET, "ask": "secrets"}]
    variable, said = one.run("without", "a2", start=start)["result"]
    assert variable is None
    assert said == "the task names no secret 'KEY': name it in @task(secrets=['KEY'])"


def test_process_1_and_the_zygote_never_have_them(container: Callable[..., Container]) -> None:
    # it is not returned, which would take it through process 1
    one = container(CODE.replace("return [samovar.secret", "return len(samovar.secret('KEY')) or [samovar.secret"))
    with counter(one, {"ok": True, "secrets": {"KEY": VALUE}}):
        for attempt in ("a1", "a2"):
            assert one.run("with-secret", attempt, secrets=["KEY"], ticket=TICKET)["result"] == len(VALUE)
    one.stands_ready()
    memories = [memory(pid) for pid in (one.process.pid, *one.children())]
    assert len(memories) == 3  # and of the process that stands ready for the next run
    assert all(TICKET.encode() in found for found in memories[:1])  # or nothing was read
    assert not any(VALUE.encode() in found for found in memories)


def memory(pid: int) -> bytes:
    """All that a process has in memory."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights = line.split()[:2]
            if "r" in rights and not line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                start, end = (int(part, 16) for part in where.split("-"))
                file.seek(start)
                found.append(file.read(end - start))
    return b"".join(found)


@pytest.mark.parametrize(
    ("code", "kind", "reason", "again"),
    [
        ("secrets_missing", "SecretMissing", "rejected", False),
        ("master_key", "CheckpointError", "exception", True),
    ],
)
def test_why_there_are_none_is_how_the_run_ends(
    container: Callable[..., Container], code: str, kind: str, reason: str, again: bool
) -> None:
    one = container(CODE)
    with counter(one, wire.refusal({}, code, "the secret KEY is not set")):
        finish = one.run("with-secret", secrets=["KEY"], ticket=TICKET)
    error = finish["error"]
    assert (finish["outcome"], error["type"], error["reason"]) == ("failed", kind, reason)
    assert "the secret KEY is not set" in error["message"]
    assert finish["retry"]["allowed"] is again


def test_a_module_that_reads_one_when_it_is_imported_has_it(container: Callable[..., Container]) -> None:
    code = """
    import os
    import samovar
    KEY = os.environ["KEY"]

    @samovar.task(secrets=["KEY"])
    def job():
        return KEY
    """
    one = container(code)
    with counter(one, {"ok": True, "secrets": {"KEY": VALUE}}):
        assert one.run("job", secrets=["KEY"], ticket=TICKET)["result"] == VALUE


def test_a_sidecar_that_comes_later_is_waited_for(container: Callable[..., Container]) -> None:
    one = container(CODE)
    one.assign("with-secret", secrets=["KEY"], ticket=TICKET)
    with counter(one, {"ok": True, "secrets": {"KEY": VALUE}}):
        assert one.finish()["result"] == [VALUE] * 3
