"""A model of Samovar's users and hosts, driven at random against the real store, with a clock that it moves.

Hypothesis chooses what happens: triggers, events, claims, steps of user code, deaths of runners and of the
coordinator in the middle of a transaction or just after it. The user code is a program in the payload (`Program`),
so that every attempt of a run comes to the same places, as real code has to. After every step the rows are held
against what was acknowledged (`model.py`); at the end all that is still open is brought to its end, or is stuck.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, Row, event, select, update

from coordinator.attempts import attempts, checkpoints
from coordinator.attempts import claims as claiming
from coordinator.attempts.claims import Claimed
from coordinator.deployments import builds, rebuilds
from coordinator.foundation.errors import Conflict, Gone, StaleAttempt
from coordinator.foundation.limits import LEASE
from coordinator.line import lanes, queues
from coordinator.maintenance import schedules as schedule_duty
from coordinator.maintenance import sweep
from coordinator.runs import cancelling, children, history, plans, trace, triggers
from coordinator.runs.cancelling import Canceled
from coordinator.sources import events
from coordinator.storage.tables import IS_MISSING, deployments, schedules
from coordinator.storage.tables import runs as runs_table
from coordinator.storage.values import Stored, encode
from coordinator.waits import event_waits, waits
from coordinator.waits.waits import Called
from coordinator.wire import (
    Build,
    BuildDone,
    BuildFailed,
    ClaimRequest,
    ErrorBody,
    EventRequest,
    Finish,
    Lost,
    Problem,
    QueuePatch,
    Retry,
    Trace,
    TriggerRequest,
    WaitCall,
)
from tests import traced
from tests.conformance.model import Model
from tests.conformance.store import GIB, Store, fixed, queue, task_entry

#: What a program may consist of. "fail" raises in the first attempt that comes to it, "abort" in every one.
STEPS = ("checkpoint", "sleep", "token", "event", "run", "batch", "trigger", "fail", "abort")
Program = list[str]

_PROGRAM = st.one_of(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=3),
    st.sampled_from([["event", "event"], ["event", "sleep", "event"], ["checkpoint", "run", "token"]]),
)
RUNNERS = ("r1", "r2")
LIMIT = 2
_RETRY = {"max_attempts": 3, "factor": 1, "min_delay": 2, "max_delay": 2, "jitter": False}
_SCHEDULED = {"type": "object", "properties": {"scheduled_at": {"type": "string"}}}
_ROUNDS = 80


_SHARED = queue("shared", concurrency=LIMIT)
TASKS = [
    task_entry("boss", retry=_RETRY, queue=_SHARED, on_failure="told"),
    task_entry("child", retry=_RETRY, queue=_SHARED),
    task_entry("keyed", retry=_RETRY, queue=queue("keyed", per_key=1), concurrency_key="key", total_timeout=200),
    task_entry("told"),
    task_entry("listen", on_event=[{"name": "paid", "where": {"n": {"gte": 1}}}]),
    task_entry("minutely", _SCHEDULED, schedule={"cron": "* * * * *", "timezone": "UTC", "catchup": "all"}),
]


class Crash(Exception):
    """The coordinator died in the middle of a transaction."""


def deploy(store: Store) -> None:
    """The tasks of the model: parents and children share one queue of two places."""
    store.deploy(*TASKS)


@dataclass
class Body:
    """User code in a container: a claimed attempt, and how far its program has come."""

    claimed: Claimed
    runner: str
    place: int = 0
    started: bool = False
    values: list[Any] = field(default_factory=list)
    #: What it said last and whether that has been answered: said again word for word where it has not.
    last_word: Finish | None = None

    @property
    def run(self) -> str:
        return str(self.claimed.run.id)

    @property
    def program(self) -> Program:
        payload = json.loads(self.claimed.run.payload or "{}")
        return list(payload.get("program") or [])


class Machine(RuleBasedStateMachine):
    """Set `open_store` to a function that gives a store as `deploy` leaves it; it may be the same each time."""

    open_store: ClassVar[Callable[[], Store]]

    def __init__(self) -> None:
        super().__init__()
        self.store = type(self).open_store()
        self.model = Model(self.store)
        self.real_write = self.store.write

        def write(*given: Any, **named: Any) -> Any:
            self.model.changed()
            return self.real_write(*given, **named)

        self.store.write = write  # type: ignore[method-assign, assignment]
        #: What runs now, by attempt; and what runs on though its runner has lost it.
        self.bodies: dict[str, Body] = {}
        self.zombies: list[Body] = []
        self.tokens: dict[str, tuple[str, str]] = {}
        #: The triggers that had an idempotency key.
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.names = 0

    def teardown(self) -> None:
        try:
            self.bring_everything_to_its_end()
        finally:
            self.store.write = self.real_write  # type: ignore[method-assign]

    # ------------------------------------------------------------ crashes

    def do(self, crash: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """One transaction. `crash`: 0 for none, -1 for a death after the commit and before the answer, n for one
        before the n-th statement. Gives None where nobody heard the answer.
        """
        if crash > 0:
            try:
                with self._dying(crash):
                    self.store.write(function, *arguments)
            except Crash:
                pass
            return None
        answer = self.store.write(function, *arguments)
        return None if crash < 0 else answer

    @contextmanager
    def _dying(self, statements: int) -> Any:
        left = statements

        def count(*_: Any) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Crash

        engine = self.store.database._writer
        event.listen(engine, "before_cursor_execute", count)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", count)

    # ------------------------------------------------------------ users

    def trigger(self, task: str, crash: int = 0, **options: Any) -> None:
        program = options.pop("program", [])
        key = options.pop("key", "a")
        payload: dict[str, Any] = {"program": program} | ({"key": key} if task == "keyed" else {})
        body = TriggerRequest(payload=payload, **options)
        planned = self.store.read(plans.plan, task, body, self.store.payloads)
        if not isinstance(planned, plans.Plan):
            self.model.acknowledge(planned.id, task, body.idempotency_key)
            return
        assert planned.payload is not None
        made = self.do(crash, triggers.create, planned, Stored(planned.payload.text, None, planned.payload.size))
        if made is not None:
            self.model.acknowledge(made.run.id, task, body.idempotency_key)

    @rule(
        task=st.sampled_from(["boss", "boss", "child", "keyed"]),
        program=_PROGRAM,
        options=st.sampled_from([{}, {}, {}, {"delay": 3}, {"ttl": 4}, {"delay": 3, "ttl": 2}]),
        key=st.sampled_from(["a", "b"]),
        idempotency=st.sampled_from([None, None, "k1", "k2"]),
        again=st.booleans(),
        crash=st.sampled_from([0, 0, 0, -1, 2, 4]),
    )
    def user_triggers(
        self,
        task: str,
        program: Program,
        options: dict[str, Any],
        key: str,
        idempotency: str | None,
        again: bool,
        crash: int,
    ) -> None:
        asked = {"program": program, "key": key, "idempotency_key": idempotency, **options}
        if idempotency is not None:
            self.asked.append((task, asked))
        # (a key that was used with another body is refused)
        with suppress(Conflict):
            self.trigger(task, crash, **asked)
            if idempotency is not None and again:
                self.trigger(task, **asked)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), crash=st.sampled_from([0, 0, -1, 2]))
    def user_asks_again(self, data: st.DataObject, crash: int) -> None:
        """Word for word, as whoever heard no answer does."""
        task, asked = data.draw(st.sampled_from(self.asked))
        with suppress(Conflict):
            self.trigger(task, crash, **asked)

    @rule(
        n=st.sampled_from([0, 1, 1, 2]),
        name=st.sampled_from(["paid", "paid", "other"]),
        crash=st.sampled_from([0, 0, -1, 3, 6]),
    )
    def event_is_sent(self, n: int, name: str, crash: int) -> None:
        self.names += 1
        self.send(name, n, f"e{self.names}", crash)

    def send(self, name: str, n: int, id: str, crash: int = 0) -> None:
        body = EventRequest(name=name, payload={"n": n}, id=id)
        emitted = self.do(crash, events.emit, body, self.store.payloads)
        if emitted is None:
            # whoever heard no answer sends it again
            emitted = self.store.write(events.emit, body, self.store.payloads)
        self.model.sent(name, n)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), crash=st.sampled_from([0, 0, -1, 3]))
    def token_is_completed(self, data: st.DataObject, crash: int) -> None:
        token = data.draw(st.sampled_from(sorted(self.tokens)))
        self.names += 1
        self.complete_token(token, f"v{self.names}", crash)

    def complete_token(self, token: str, value: str, crash: int = 0) -> None:
        run, key = self.tokens[token]
        try:
            answer = self.do(crash, _complete, token, Stored(json.dumps(value), None, len(value) + 2))
        except (Conflict, Gone):
            return
        if answer is not None:
            self.model.completed_token(run, key, value)

    @rule(data=st.data(), crash=st.sampled_from([0, 0, 2]))
    def somebody_cancels(self, data: st.DataObject, crash: int) -> None:
        known = sorted(self.model.acknowledged)
        if known:
            run = data.draw(st.sampled_from(known))
            canceled: Canceled | None = self.do(crash, cancelling.cancel, run)
            if canceled is not None:
                self.model.asked_to_cancel(run)

    @precondition(lambda self: self.bodies)
    @rule(data=st.data(), hears=st.booleans(), crash=st.sampled_from([0, 0, 3]))
    def a_cancel_and_a_death_cross(self, data: st.DataObject, hears: bool, crash: int) -> None:
        """Neither knows of the other. `hears`: the host tells of the end, and is not just silent for too long."""
        attempt = data.draw(st.sampled_from(sorted(self.bodies)))
        body = self.bodies.pop(attempt)
        self.store.write(cancelling.cancel, body.run)
        self.model.asked_to_cancel(body.run)
        if hears:
            with suppress(StaleAttempt):
                self.do(crash, _lose, body.claimed, "lost")
        else:
            self.zombies.append(body)
            self.store.now += LEASE + 1
            self.do(crash, sweep.run_once, fixed(0.0))

    @rule(limit=st.sampled_from([1, 2, 3]), paused=st.sampled_from([False, False, True]))
    def queue_is_changed(self, limit: int, paused: bool) -> None:
        self.set_queue(limit, paused)

    def set_queue(self, limit: int, paused: bool) -> None:
        self.store.write(queues.change, "shared", "orders", QueuePatch(concurrency=limit, paused=paused))
        self.model.limit = limit
        self.model.paused = paused

    # ------------------------------------------------------------ hosts

    @rule(
        runner=st.sampled_from(RUNNERS), most=st.sampled_from([1, 2, 4]), crash=st.sampled_from([0, 0, 0, -1, 4, 9])
    )
    def runner_claims(self, runner: str, most: int, crash: int) -> None:
        self.claim(runner, most, crash)

    def claim(self, runner: str, most: int, crash: int = 0) -> list[Claimed]:
        before = self.model.occupied()
        request = ClaimRequest(memory=64 * GIB, slots=50, most=most)
        claimed: list[Claimed] | None = self.do(crash, claiming.claim, runner, request, None)
        self.model.check_claim(before)
        for one in claimed or []:
            self.model.claimed(one)
            self.bodies[one.attempt] = Body(one, runner)
        return claimed or []

    @rule(runs=st.integers(3, 4), most=st.sampled_from([1, 1, 2]), crash=st.sampled_from([0, 0, 0, -1, 4, 9]))
    def a_burst_is_claimed_by_both(self, runs: int, most: int, crash: int) -> None:
        """More than there is room for: the second claim takes what the first has left, and has to know of that."""
        for _ in range(runs):
            self.trigger("child", program=["checkpoint"])
        for runner in RUNNERS:
            self.claim(runner, most, crash)
            most, crash = 4, 0

    @rule(runner=st.sampled_from(RUNNERS))
    def runner_beats(self, runner: str) -> None:
        self.beat(runner)

    def beat(self, runner: str) -> None:
        held = [body.claimed for body in self.bodies.values() if body.runner == runner]
        self.model.heartbeat(held)
        # what is claimed and never reached its runner is lost at once, a moment after its claim
        self.store.now += 0.001
        gone = self.store.heartbeat(*held, runner=runner)
        for attempt in gone:
            self.zombies.append(self.bodies.pop(attempt))

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def runner_dies(self, data: st.DataObject) -> None:
        """Its containers live on for a while, and do not know."""
        runner = self.bodies[data.draw(st.sampled_from(sorted(self.bodies)))].runner
        for attempt in [a for a, body in self.bodies.items() if body.runner == runner]:
            self.zombies.append(self.bodies.pop(attempt))

    @precondition(lambda self: self.bodies)
    @rule(
        data=st.data(),
        reason=st.sampled_from(["lost", "out_of_memory", "timeout"]),
        crash=st.sampled_from([0, 0, 3]),
    )
    def container_dies(self, data: st.DataObject, reason: str, crash: int) -> None:
        body = self.bodies.pop(data.draw(st.sampled_from(sorted(self.bodies))))
        try:
            self.do(crash, _lose, body.claimed, reason)
        except StaleAttempt:
            self.model.check_stale(body.claimed)

    @precondition(lambda self: any(not body.started for body in self.bodies.values()))
    @rule(data=st.data(), crash=st.sampled_from([0, 0, 0, -1, 3]))
    def image_is_missed(self, data: st.DataObject, crash: int) -> None:
        """Somebody has pruned it, and a host finds none for what it has claimed."""
        waiting = sorted(attempt for attempt, body in self.bodies.items() if not body.started)
        body = self.bodies.pop(data.draw(st.sampled_from(waiting)))
        try:
            self.do(crash, _miss, body.claimed)
        except StaleAttempt:
            self.model.check_stale(body.claimed)

    @rule(fails=st.sampled_from([False, False, True]), crash=st.sampled_from([0, 0, -1, 3, 6]))
    def image_is_built(self, fails: bool, crash: int) -> None:
        self.build(fails, crash)

    def build(self, fails: bool = False, crash: int = 0) -> None:
        taken: list[Build] | None = self.do(-1 if crash == -1 else 0, builds.claim, RUNNERS[0], 1)
        for build in taken or []:
            if fails:
                self.do(crash, _fail_build, build)
            else:
                self.do(crash, _end_build, build)

    # ------------------------------------------------------------ user code

    @precondition(lambda self: self.bodies)
    @rule(data=st.data(), steps=st.integers(1, 5), crash=st.sampled_from([0, 0, 0, -1, 2, 5]))
    def user_code_goes_on(self, data: st.DataObject, steps: int, crash: int) -> None:
        body = self.bodies[data.draw(st.sampled_from(sorted(self.bodies)))]
        for _ in range(steps):
            if body.claimed.attempt not in self.bodies:
                break
            self.step(body, crash)
            crash = 0

    @precondition(lambda self: self.zombies)
    @rule(data=st.data())
    def user_code_goes_on_where_nobody_hears_of_it(self, data: st.DataObject) -> None:
        body = self.zombies.pop(data.draw(st.integers(0, len(self.zombies) - 1)))
        with self.model.unchanged_if_stale(body.claimed):
            self.step(body, 0)

    @precondition(lambda self: self.bodies)
    @rule(data=st.data(), before=st.integers(0, 2), steps=st.integers(1, 2), again=st.booleans())
    def a_host_that_was_given_up_comes_back(
        self, data: st.DataObject, before: int, steps: int, again: bool
    ) -> None:
        """`before`: how far it comes until it is cut off. `again`: somebody else has the run by then."""
        body = self.bodies[data.draw(st.sampled_from(sorted(self.bodies)))]
        for _ in range(before):
            if body.claimed.attempt in self.bodies:
                self.step(body, 0)
        if self.bodies.pop(body.claimed.attempt, None) is None:
            return
        self.store.now += LEASE + 1
        self.store.sweep()
        if again:
            self.claim(RUNNERS[0], 4)
        for _ in range(steps):
            with self.model.unchanged_if_stale(body.claimed):
                self.step(body, 0)

    def step(self, body: Body, crash: int) -> None:
        """One step of a program. Where the answer was lost, the same is asked again by the next step."""
        claimed = body.claimed
        try:
            if not body.started:
                self.store.start(claimed)
                body.started = True
            elif body.last_word is not None:
                self._finish(body, body.last_word, crash)
            elif body.place >= len(body.program):
                self._finish(body, Finish(token=claimed.token, outcome="completed", result=body.values), crash)
            else:
                self._call(body, body.program[body.place], crash)
        except StaleAttempt:
            self.model.check_stale(claimed)
            self.bodies.pop(claimed.attempt, None)

    def _call(self, body: Body, step: str, crash: int) -> None:
        claimed, key = body.claimed, f"{step}#{body.place}"
        if step in ("fail", "abort"):
            if claimed.number == 1 or step == "abort":
                error = ErrorBody(type="ValueError", message="no")
                retry = Retry(allowed=step == "fail")
                self._finish(body, Finish(token=claimed.token, outcome="failed", error=error, retry=retry), crash)
                return
            self._passed(body, key, None)
            return
        if step == "checkpoint":
            value = Stored(json.dumps(f"{claimed.attempt}"))
            kept = self.do(crash, checkpoints.put, claimed.attempt, claimed.token, key, value)
            if kept is not None:
                self._passed(body, key, kept.value.text)
            return
        called: Called | None = self._wait(body, step, key, crash)
        if called is None:
            return
        row = called.row
        if row.status == "pending":
            self._finish(body, Finish(token=claimed.token, outcome="waiting", waits=[key]), crash)
        else:
            self.model.check_resolved(row)
            self._passed(body, key, (row.status, row.value, row.runs))

    def _passed(self, body: Body, key: str, value: Any) -> None:
        self.model.value_of(body.run, key, value)
        body.values.append(key)
        body.place += 1

    def _wait(self, body: Body, step: str, key: str, crash: int) -> Called | None:
        claimed = body.claimed
        program: dict[str, Any] = {"program": ["checkpoint"]}
        items = [{"payload": program}, {"payload": {"program": ["sleep"]}}]
        wanted: dict[str, tuple[str | None, dict[str, Any]]] = {
            "sleep": (None, {"seconds": 5}),
            "token": (None, {"timeout": 40}),
            "event": ("paid", {"timeout": 40, "where": {"n": 1}}),
            "run": ("child", {"payload": program}),
            "trigger": ("child", {"payload": program}),
            "batch": ("child", {"items": items}),
        }
        name, spec = wanted[step]
        call = WaitCall(token=claimed.token, key=key, kind=step, name=name, spec=spec)  # type: ignore[arg-type]
        if step == "event":
            return self._heard(self.do(crash, event_waits.call, claimed.attempt, call))
        if step in children.KINDS:
            planned = self.store.read(children.plan, claimed.attempt, call, self.store.payloads)
            payloads = None if planned is None else [Stored(p.text, None, p.size) for p in planned.payloads]
            return self._heard(self.do(crash, children.call, claimed.attempt, call, planned, payloads))
        token = hashlib.sha256(f"{body.run}/{key}".encode()).hexdigest() if step == "token" else None
        called = self._heard(self.do(crash, waits.call, claimed.attempt, call, token))
        if called is not None and token is not None:
            self.tokens[token] = (body.run, key)
        return called

    def _heard(self, called: Called | None) -> Called | None:
        if called is not None and called.row.runs is not None:
            for run in json.loads(called.row.runs):
                self.model.acknowledge(run)
        return called

    def _finish(self, body: Body, word: Finish, crash: int) -> None:
        result = Stored(encode(word.result, "result").text) if word.outcome == "completed" else Stored()
        ended = self.do(crash, attempts.finish, body.claimed.attempt, word, result, fixed(0.0))
        if ended is None:
            # the harness says the same again until it is answered
            body.last_word = word
            return
        self.model.ended(body.claimed, word, ended)
        self.bodies.pop(body.claimed.attempt, None)

    @rule()
    def everybody_works(self) -> None:
        self.all_user_code_goes_on()

    def all_user_code_goes_on(self) -> None:
        self.build()
        for runner in RUNNERS:
            self.beat(runner)
            self.claim(runner, 4)
        for body in list(self.bodies.values()):
            for _ in range(3):
                if body.claimed.attempt in self.bodies:
                    self.step(body, 0)

    # ------------------------------------------------------------ time

    @rule(seconds=st.sampled_from([0.5, 2.5, 6, 31]), crash=st.sampled_from([0, 0, 0, -1, 3, 8]))
    def time_passes(self, seconds: float, crash: int) -> None:
        self.store.now += seconds
        self.do(crash, sweep.run_once, fixed(0.0))

    @rule(minutes=st.integers(0, 2), stale=st.booleans(), crash=st.sampled_from([0, 0, -1, 4]))
    def schedules_are_looked_at(self, minutes: int, stale: bool, crash: int) -> None:
        """`stale`: also by a replica that had read the schedule before the other one fired it."""
        self.store.now += 60 * minutes
        before = self.store.read(_next_tick)
        self.do(crash, schedule_duty.run_once, self.store.payloads)
        if stale:
            self.store.write(_set_next_tick, before)
            self.store.write(schedule_duty.run_once, self.store.payloads)

    @initialize(programs=st.lists(_PROGRAM, min_size=1, max_size=2))
    def begin(self, programs: list[Program]) -> None:
        for runner in RUNNERS:
            self.store.heartbeat(runner=runner)
        for program in programs:
            self.trigger("boss", program=program)
        self.all_user_code_goes_on()

    # ------------------------------------------------------------ what has to hold

    @invariant()
    def rows_are_as_they_have_to_be(self) -> None:
        self.model.check()

    def bring_everything_to_its_end(self) -> None:
        """With hosts that live and users that answer, everything ends: what does not is lost or stuck."""
        self.check_traces()
        self.set_queue(LIMIT, paused=False)
        self.store.write(_stop_schedules)
        self.zombies.clear()
        for runner in RUNNERS:
            self.beat(runner)
        # whoever has made room for a build that failed does not wait for its next try
        self.store.write(_try_builds_now)
        for round in range(_ROUNDS):
            for body in list(self.bodies.values()):
                while body.claimed.attempt in self.bodies:
                    self.step(body, 0)
            unfinished = self.model.unfinished()
            if not unfinished:
                break
            if "queued" not in unfinished or not self.claim(RUNNERS[0], 10):
                self.build()
                for token in sorted(self.tokens):
                    self.complete_token(token, "at last")
                self.tokens.clear()
                self.store.now += 7 if round % 2 else 31
                self.store.sweep()
        self.model.check()
        self.model.check_nothing_is_left()
        self.check_traces()

    def check_traces(self) -> None:
        """The ledger of every run adds up to its whole time, and its spans are a tree."""

        def built(conn: Connection, now: float) -> list[Trace]:
            every = conn.scalars(select(runs_table.c.id)).all()
            return [trace.build(history.read(conn, now, run), now) for run in every]

        for found in self.store.read(built):
            traced.check(found)


# ---------------------------------------------------------------- transactions of the model's own


def _complete(conn: Connection, now: float, token: str, value: Stored) -> bool:
    queued: list[Row[Any]] = []
    waits.complete(conn, now, token, value, queued)
    lanes.enter(conn, queued)
    return True


def _lose(conn: Connection, now: float, claimed: Claimed, reason: str) -> attempts.Ended:
    body = Lost(token=claimed.token, reason=reason, message="gone")  # type: ignore[arg-type]
    return attempts.lost(conn, now, claimed.attempt, body, fixed(0.0))


def _miss(conn: Connection, now: float, claimed: Claimed) -> attempts.Ended:
    body = Lost(token=claimed.token, reason="lost", message="no image", missing_image=claimed.image)
    return rebuilds.lost(conn, now, claimed.attempt, body)


def _end_build(conn: Connection, now: float, build: Build) -> builds.Outcome:
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": TASKS}
    body = BuildDone(token=build.token, image=f"samovar/orders:{build.token}", index=index)
    return builds.done(conn, now, build.deployment, body)


def _fail_build(conn: Connection, now: float, build: Build) -> builds.Outcome:
    problem = Problem(code="build_failed", message="no space left")
    return builds.failed(conn, now, build.deployment, BuildFailed(token=build.token, error=problem))


def _try_builds_now(conn: Connection, now: float) -> None:
    for missing in conn.scalars(select(deployments.c.id).where(IS_MISSING)).all():
        rebuilds.ask(conn, now, missing)


def _next_tick(conn: Connection, now: float) -> float | None:
    return conn.scalar(select(schedules.c.next_at))


def _set_next_tick(conn: Connection, now: float, at: float | None) -> None:
    conn.execute(update(schedules).values(next_at=at))


def _stop_schedules(conn: Connection, now: float) -> None:
    conn.execute(update(schedules).values(next_at=None))
