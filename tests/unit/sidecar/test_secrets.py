"""The secrets of an attempt: given to who has its ticket, and taken out of all that the container says."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import Any

import pytest
from samovar import wire

from sidecar.run_socket import PATIENCE
from tests.unit.sidecar.test_sidecar import ATTEMPT, World, line, run
from tests.waiting import eventually_async

VALUE = "sk_live_9f8e7d6c"
VALUES = {"values": {"KEY": VALUE}}


async def ask(w: World, ticket: object) -> dict[str, Any]:
    path = w.directory / "c" / "c1" / wire.RUN_SOCKET_NAME
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps({"ticket": ticket, "ask": "secrets"}).encode() + b"\n")
    answer = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    return dict(json.loads(answer))


async def given(w: World, secrets: dict[str, Any]) -> tuple[Any, str]:
    """The container's end with an attempt that has `secrets`, and the ticket that came with it."""
    w.coordinator.secrets = secrets
    await w.register()
    await w.assign(["KEY"])
    harness = await w.connect()
    assigned = await harness.receive()
    assert VALUE not in str(assigned)
    return harness, str(assigned["ticket"])


def test_the_runs_process_gets_them_and_nobody_without_the_ticket() -> None:
    async def test(w: World) -> None:
        _, ticket = await given(w, VALUES)
        for other in ("", "0" * 64, None, ["é"], ticket[:-1]):
            refused = await ask(w, other)
            assert (refused["ok"], refused["error"]["code"]) == (False, "no_ticket")
        assert await ask(w, ticket) == {"ok": True, "secrets": {"KEY": VALUE}}
        # it is fetched once, by the attempt's own right
        assert [body for action, _, body in w.coordinator.calls if action == "secrets"] == [{"token": 7}]

    run(test)


def test_an_attempt_without_any_is_given_none() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        assigned = await (await w.connect()).receive()
        assert assigned["secrets"] == []
        assert (await ask(w, assigned["ticket"]))["error"]["code"] == "unknown_type"
        assert w.coordinator.seen("secrets") == []

    run(test)


def test_the_ticket_ends_with_the_attempt() -> None:
    async def test(w: World) -> None:
        harness, ticket = await given(w, VALUES)
        await harness.ask("started", attempt=ATTEMPT)
        await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, lines=[])
        assert (await ask(w, ticket))["error"]["code"] == "no_ticket"
        await w.control.ask("forget", "c1")
        assert not (w.directory / "c" / "c1").exists()

    run(test)


def test_a_sidecar_that_begins_anew_gives_and_redacts_as_the_one_before() -> None:
    async def test(w: World) -> None:
        harness, ticket = await given(w, VALUES)
        await harness.ask("started", attempt=ATTEMPT)
        await w.stop("sidecar")
        await w.start_sidecar()
        gate = w.coordinator.slow["secrets"] = asyncio.Event()
        await w.register(running=True, secrets=["KEY"])
        again = await w.connect(ATTEMPT)
        # what is said before they are known here waits: nobody could take them out of it
        logged = asyncio.create_task(again.ask("log", attempt=ATTEMPT, lines=[line(1, f"it is {VALUE}")]))
        await eventually_async(lambda: len(w.coordinator.slow) == 1, "the coordinator to be asked")
        assert w.coordinator.seen("logs") == []
        gate.set()
        await logged
        await eventually_async(lambda: w.coordinator.seen("logs"), "the line")
        assert w.coordinator.seen("logs")[0]["lines"][0]["message"] == "it is ***"
        assert (await ask(w, ticket))["ok"]

    run(test)


@pytest.mark.parametrize(
    ("refusal", "code"), [((409, "master_key"), "master_key"), ((409, "stale_attempt"), "stale_attempt")]
)
def test_why_there_are_none_is_said_to_the_run(refusal: tuple[int, str], code: str) -> None:
    async def test(w: World) -> None:
        w.coordinator.refuse["secrets"] = refusal
        _, ticket = await given(w, VALUES)
        assert (await ask(w, ticket))["error"]["code"] == code

    run(test)


def test_one_that_is_not_set_is_named_with_what_to_type() -> None:
    async def test(w: World) -> None:
        _, ticket = await given(w, {"values": {}, "missing": ["KEY"]})
        error = (await ask(w, ticket))["error"]
        assert error["code"] == "secrets_missing"
        assert "the secret KEY is not set: `samovar secrets set KEY --project p`" in error["message"]

    run(test)


def test_logs_errors_progress_and_metadata_have_none() -> None:
    async def test(w: World) -> None:
        harness, _ = await given(w, VALUES)
        await harness.ask("started", attempt=ATTEMPT)
        partial = {**line(2, f"Bearer {VALUE[:9]}"), "partial": True}
        await harness.ask("log", attempt=ATTEMPT, lines=[line(1, f"Bearer {VALUE}"), partial])
        await harness.ask(
            "report",
            attempt=ATTEMPT,
            progress={"fraction": 0.5, "message": f"at {VALUE}"},
            metadata={"url": f"https://u:{VALUE}@host", "n": 7},
        )
        error = {"type": "E", "message": f"401 for {VALUE}", "traceback": f"line\n{VALUE}", "reason": "exception"}
        await harness.ask(
            "finish", attempt=ATTEMPT, outcome="failed", error=error, retry={}, lines=[line(3, VALUE)]
        )
        said = json.dumps([body for action, _, body in w.coordinator.calls if action != "secrets"])
        assert VALUE not in said
        assert VALUE[:9] not in said
        (report,) = w.coordinator.seen("report")
        assert report["metadata"] == {"url": "https://u:***@host", "n": 7}
        assert report["progress"] == {"fraction": 0.5, "message": "at ***"}
        (finish,) = w.coordinator.seen("finish")
        assert (finish["error"]["message"], finish["error"]["type"]) == ("401 for ***", "E")
        assert finish["lines"][0]["message"] == "***"

    run(test)


def test_a_flood_of_askers_leaves_the_run_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(w: World) -> None:
        _, ticket = await given(w, VALUES)
        path = w.directory / "c" / "c1" / wire.RUN_SOCKET_NAME
        silent = [await asyncio.open_unix_connection(path) for _ in range(100)]
        with pytest.raises((ConnectionError, ValueError)):
            await ask(w, ticket)
        # the silent ones have their time
        loop = asyncio.get_running_loop()
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + PATIENCE)

        async def answered() -> bool:
            try:
                return bool((await ask(w, ticket))["ok"])
            except (ConnectionError, ValueError):
                return False  # turned away: the loop has not come to all of them

        await eventually_async(answered, "the answer")
        for _, writer in silent:
            writer.close()

    run(test)


def test_its_socket_is_for_containers() -> None:
    async def test(w: World) -> None:
        await given(w, VALUES)
        path = w.directory / "c" / "c1" / wire.RUN_SOCKET_NAME
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        # nobody on the host comes as far as the directory above
        assert stat.S_IMODE((w.directory / "c").stat().st_mode) == 0o700

    run(test)
