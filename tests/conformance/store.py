"""A coordinator's store under a clock that tests move, with the few steps that most tests begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, select

from coordinator.access.keys import hash_key
from coordinator.attempts import attempts, claims, runners
from coordinator.attempts.attempts import Ended
from coordinator.attempts.claims import Claimed
from coordinator.deployments import builds, deployments
from coordinator.line import lanes as lanes_of_runs
from coordinator.maintenance import schedules as schedule_duty
from coordinator.maintenance import sweep
from coordinator.runs import cancelling, children, plans, runs, triggers
from coordinator.storage.database import Database
from coordinator.storage.tables import IS_PENDING, IS_QUEUED, lanes
from coordinator.storage.tables import attempts as attempts_table
from coordinator.storage.tables import runs as runs_table
from coordinator.storage.tables import waits as waits_table
from coordinator.storage.values import Stored, encode
from coordinator.tasks.payloads import Payloads
from coordinator.waits import event_waits, waits
from coordinator.wire import (
    BuildDone,
    ClaimRequest,
    ErrorBody,
    Finish,
    Heartbeat,
    Held,
    Lost,
    Retry,
    Shares,
    Started,
    TriggerRequest,
    WaitCall,
)

MIB = 1024 * 1024
GIB = 1024 * MIB
HOST = 4 * GIB

_LISTED = select(lanes.c.id).where(lanes.c.rank.is_not(None) | lanes.c.opens_at.is_not(None))
_UNLISTED = select(runs_table.c.id).where(IS_QUEUED, runs_table.c.lane.not_in(_LISTED))
_AWAITED = select(waits_table.c.run_id).where(IS_PENDING, waits_table.c.awaited)
_STUCK = select(runs_table.c.id).where(runs_table.c.status == "waiting", runs_table.c.id.not_in(_AWAITED))


def fixed(value: float) -> Callable[[], float]:
    """A source of randomness that is none."""
    return lambda: value


def task_entry(id: str, schema: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A task as the index of an image lists it."""
    return {
        "id": id,
        "module": "orders.tasks",
        "name": id.replace("-", "_"),
        "doc": None,
        "schema": schema or {"type": "object"},
        "options": {
            "retry": {"max_attempts": 1, "factor": 2, "min_delay": 1, "max_delay": 60, "jitter": False},
            "memory": 512 * MIB,
            "cpu": 1.0,
            "timeout": 3600.0,
            "ttl": None,
            "priority": 0,
            "warm": True,
            "network": "none",
            "secrets": [],
            "trust": "project",
            "mounts": {},
            "schedule": None,
            **options,
        },
    }


def queue(name: str = "shared", **values: Any) -> dict[str, Any]:
    """A queue as the index has it."""
    plain = {"concurrency": None, "per_key": None, "rate": None, "rate_excess": "wait", "on_full": "queue"}
    return {"name": name, **plain, **values}


def unlisted(conn: Connection, now: float) -> list[str]:
    """Queued runs that no claim would ever come to."""
    return list(conn.scalars(_UNLISTED))


def stuck(conn: Connection, now: float) -> list[str]:
    """Waiting runs that nothing would ever wake."""
    return list(conn.scalars(_STUCK))


class Store:
    """`now` is the database's time in every transaction; it moves only when a test moves it."""

    def __init__(self, url: str) -> None:
        self.now = 1_800_000_000.0
        self.url = url
        self.database = Database(url, clock=lambda conn: self.now)
        self.payloads = Payloads()
        self.write = self.database.write_now
        self.read = self.database.read_now

    # ------------------------------------------------------------ deployments

    def deploy(self, *tasks: dict[str, Any], project: str = "orders", promote: bool = True) -> str:
        """A deployment that is ready; its id."""
        deployment = self.write(deployments.create, project, "0" * 64, promote)
        self.build(deployment, *(tasks or [task_entry("greet")]), project=project)
        return deployment

    def build(
        self, deployment: str, *tasks: dict[str, Any], project: str = "orders", image: str | None = None
    ) -> None:
        """Makes the deployment that waits to be built ready."""
        (build,) = self.write(builds.claim, f"builder of {deployment}", 1)
        body = BuildDone(
            token=build.token,
            image=image or f"samovar/{project}:{build.version}",
            index={"sdk": "0.1.0", "python": "3.11.2", "tasks": list(tasks)},
        )
        assert self.write(builds.done, deployment, body).status == "ready"

    # ------------------------------------------------------------ runs

    def trigger(self, task: str = "greet", payload: dict[str, Any] | None = None, **options: Any) -> Row[Any]:
        row, _ = self.try_trigger(task, payload, **options)
        return row

    def try_trigger(
        self, task: str = "greet", payload: dict[str, Any] | None = None, **options: Any
    ) -> tuple[Row[Any], bool]:
        """The run, and whether this trigger made it."""
        body = TriggerRequest(payload=payload or {}, **options)
        plan = self.read(plans.plan, task, body, self.payloads)
        if not isinstance(plan, plans.Plan):
            return plan, False
        assert plan.payload is not None
        made = self.write(triggers.create, plan, Stored(plan.payload.text, None, plan.payload.size))
        return made.run, made.created

    def run(self, run: str) -> Row[Any]:
        return self.read(runs.get, run)

    def attempts(self, run: str) -> list[Row[Any]]:
        return self.read(runs.list_attempts, run)

    def cancel(self, run: str) -> cancelling.Canceled:
        return self.write(cancelling.cancel, run)

    # ------------------------------------------------------------ the fleet

    def claim(
        self,
        runner: str = "r1",
        memory: int = HOST,
        slots: int = 100,
        most: int = 1,
        max_running: int | None = None,
    ) -> list[Claimed]:
        request = ClaimRequest(memory=memory, slots=slots, most=most)
        return self.write(claims.claim, runner, request, max_running)

    def claim_one(self, runner: str = "r1", **options: int) -> Claimed:
        (claimed,) = self.claim(runner, **options)
        return claimed

    def start(self, claimed: Claimed) -> None:
        self.write(attempts.start, claimed.attempt, Started(token=claimed.token, start="cold"))

    def started(self, task: str = "greet", **options: Any) -> Claimed:
        """A new run whose user code is running."""
        self.trigger(task, **options)
        claimed = self.claim_one()
        self.start(claimed)
        return claimed

    def complete(self, claimed: Claimed, result: Any = None, **fields: Any) -> Ended:
        body = Finish(token=claimed.token, outcome="completed", result=result, **fields)
        stored = Stored(encode(result, "result").text)
        return self.write(attempts.finish, claimed.attempt, body, stored)

    def fail(
        self, claimed: Claimed, reason: str = "exception", retry: Retry | None = None, random: float = 0.0
    ) -> Ended:
        body = Finish(
            token=claimed.token,
            outcome="timed_out" if reason == "timeout" else "failed",
            error=ErrorBody(type="ValueError", message="no", reason=reason),
            retry=retry or Retry(),
        )
        return self.write(attempts.finish, claimed.attempt, body, Stored(), fixed(random))

    def wait(
        self, claimed: Claimed, kind: str, key: str | None = None, name: str | None = None, **spec: Any
    ) -> waits.Called:
        """Asks for a wait in the name of an attempt."""
        body = WaitCall(token=claimed.token, key=key or kind, kind=kind, name=name, spec=spec)
        if kind == "event":
            return self.write(event_waits.call, claimed.attempt, body)
        if kind not in children.KINDS:
            hashed = hash_key(f"{claimed.run.id}/{body.key}") if kind == "token" else None
            return self.write(waits.call, claimed.attempt, body, hashed)
        planned = self.read(children.plan, claimed.attempt, body, self.payloads)
        payloads = [Stored(p.text, None, p.size) for p in planned.payloads] if planned else []
        return self.write(children.call, claimed.attempt, body, planned, payloads)

    def complete_token(self, run: str, key: str, value: Any = None) -> set[str]:
        encoded = encode(value, "value")

        def complete(conn: Connection, now: float) -> set[str]:
            queued: list[Row[Any]] = []
            topics = waits.complete(conn, now, hash_key(f"{run}/{key}"), Stored(encoded.text, None, 1), queued)
            lanes_of_runs.enter(conn, queued)
            return topics

        return self.write(complete)

    def suspend(self, claimed: Claimed, *keys: str) -> Ended:
        """Ends an attempt over waits."""
        body = Finish(token=claimed.token, outcome="waiting", waits=list(keys))
        return self.write(attempts.finish, claimed.attempt, body, Stored())

    def suspended(self, kind: str = "sleep", task: str = "greet", **spec: Any) -> Claimed:
        """A run that waits; `spec` is the wait's."""
        claimed = self.started(task)
        self.wait(claimed, kind, **spec)
        assert self.suspend(claimed, kind).status == "waiting"
        return claimed

    def lose(self, claimed: Claimed, reason: str = "lost") -> Ended:
        body = Lost(token=claimed.token, reason=reason, message="gone")
        return self.write(attempts.lost, claimed.attempt, body, fixed(0.0))

    def heartbeat(
        self, *held: Claimed, runner: str = "r1", task_memory: int = HOST, shares: Shares | None = None
    ) -> list[str]:
        beat = Heartbeat(
            attempts=[Held(id=claimed.attempt, token=claimed.token) for claimed in held],
            memory=HOST,
            slots=100,
            task_memory=task_memory,
            shares=shares,
        )
        lost = self.write(runners.heartbeat, runner, beat).lost
        self.write(sweep.end_unnamed, runner, {claimed.attempt for claimed in held})
        return lost

    def sweep(self) -> sweep.Swept:
        return self.write(sweep.run_once, fixed(0.0))

    def fire(self) -> schedule_duty.Fired:
        """One pass of the schedules."""
        return self.write(schedule_duty.run_once, self.payloads)

    def unlisted(self) -> list[str]:
        return self.read(unlisted)

    def stuck(self) -> list[str]:
        return self.read(stuck)

    def live_attempts(self) -> int:
        def count(conn: Connection, now: float) -> int:
            live = select(attempts_table.c.id).where(attempts_table.c.status.in_(("claimed", "running")))
            return len(conn.execute(live).all())

        return self.read(count)
