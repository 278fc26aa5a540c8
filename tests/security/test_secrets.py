"""What a container may try on the socket of secrets, and what a run's own words give away."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from coordinator.access import secrets
from coordinator.access.vault import Vault
from coordinator.attempts import secrets as given
from tests.conformance.store import Store, task_entry
from tests.security.attempts import attempt
from tests.unit.sidecar.test_secrets import VALUE, VALUES, ask
from tests.unit.sidecar.test_secrets import given as bound
from tests.unit.sidecar.test_sidecar import ATTEMPT, World, line, run


@attempt("process 1", "ask for a run's secrets with another ticket", "the attempt's ticket", "no_ticket")
def test_a_ticket_that_is_not_the_attempts_gives_nothing() -> None:
    async def test(w: World) -> None:
        _, ticket = await bound(w, VALUES)
        for other in ("", "0" * len(ticket), ticket[:-1], ticket + "0", ticket.upper(), None, 7, [ticket], {}):
            answer = await ask(w, other)
            assert answer["error"]["code"] == "no_ticket"
            assert VALUE not in str(answer)

    run(test)


@attempt("run", "ask again with the ticket of a run that has ended", "tickets end with the attempt", "no_ticket")
def test_a_ticket_ends_with_its_attempt() -> None:
    async def test(w: World) -> None:
        harness, ticket = await bound(w, VALUES)
        assert (await ask(w, ticket))["ok"]
        await harness.ask("started", attempt=ATTEMPT)
        await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, lines=[])
        assert (await ask(w, ticket))["error"]["code"] == "no_ticket"

    run(test)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(said, id=name, marks=attempt("process 1", name, "one line of 8 KiB", "nothing"))
        for name, said in {
            "secrets: what is no JSON": b"GET / HTTP/1.1\r\n\r\n",
            "secrets: JSON without end": b"[" * 900 + b"\n",
            "secrets: a line of a million bytes": b"x" * 1_000_000,
            "secrets: text that is not UTF-8": b'{"ticket": "\xff"}\n',
        }.items()
    ],
)
def test_what_is_no_request_gives_nothing(said: bytes) -> None:
    async def test(w: World) -> None:
        _, ticket = await bound(w, VALUES)
        reader, writer = await asyncio.open_unix_connection(w.directory / "c" / "c1" / wire.RUN_SOCKET_NAME)
        writer.write(said)
        try:
            answer = await asyncio.wait_for(reader.read(), 20)
        except ConnectionError:
            answer = b""
        assert VALUE.encode() not in answer
        writer.close()
        assert (await ask(w, ticket))["ok"]

    run(test)


@attempt("process 1", "hold the socket of secrets with silent connections", "16 at a time", "closed")
def test_silent_askers_are_few() -> None:
    async def test(w: World) -> None:
        await bound(w, VALUES)
        path = w.directory / "c" / "c1" / wire.RUN_SOCKET_NAME
        silent = [await asyncio.open_unix_connection(path) for _ in range(60)]
        closed = await asyncio.gather(*(at_end(reader) for reader, _ in silent))
        assert sum(closed) == 60 - 16
        for _, writer in silent:
            writer.close()

    run(test)


async def at_end(reader: asyncio.StreamReader) -> bool:
    """Whether the other side hangs up well before the time it gives to who is served."""
    try:
        return await asyncio.wait_for(reader.read(), 2) == b""
    except TimeoutError:
        return False


@attempt("run", "print a secret, log it, put it into an error, metadata or progress", "masking", "***")
def test_what_a_run_says_of_it_is_masked() -> None:
    async def test(w: World) -> None:
        harness, _ = await bound(w, VALUES)
        await harness.ask("started", attempt=ATTEMPT)
        basic = base64.b64encode(f"user:{VALUE}".encode()).decode()
        partial = {**line(3, f"half {VALUE[:10]}"), "partial": True}
        await harness.ask("log", attempt=ATTEMPT, lines=[line(1, VALUE), line(2, basic), partial])
        await harness.ask(
            "report", attempt=ATTEMPT, progress={"fraction": 0.1, "message": VALUE}, metadata={VALUE: [VALUE]}
        )
        error = {"type": VALUE, "message": VALUE, "traceback": VALUE, "reason": "exception"}
        end = {"outcome": "failed", "error": error, "retry": {}, "lines": [line(4, VALUE)]}
        await harness.ask("finish", attempt=ATTEMPT, **end)
        said = json.dumps([body for action, _, body in w.coordinator.calls if action != "secrets"])
        for form in (VALUE, VALUE[:10], basic[8:-8], base64.b64encode(VALUE.encode()).decode()[:-4]):
            assert form not in said
        assert said.count("***") >= 9

    run(test)


@attempt("run", "untrusted: name secrets in an index of one's own", 'trust="untrusted"', "none given")
def test_untrusted_code_gets_none(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'coordinator.db'}")
    store.database.migrate()
    vault = Vault(tmp_path / "master-keys")
    store.write(secrets.put, "", "KEY", vault.seal("", "KEY", VALUE, create=True))
    store.deploy(task_entry("greet", secrets=["KEY"], trust="untrusted"))
    claimed = store.started()
    found: Any = given.opened(vault, store.read(given.find, claimed.attempt, claimed.token))
    assert found == ({}, [])
    store.database.close()
