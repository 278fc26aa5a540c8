"""kill -9 of either of two coordinators, and of their database: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.chaos.replicas import Replicas, replicas
from tests.conformance.databases import postgres_binaries
from tests.signing import standard
from tests.stack import written
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("base_image")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TICKING = 12
TASKS = f"""
from samovar import Cron, Webhook, task

OPTIONS = dict(memory="64m", mounts={{"ledger": "/ledger"}})


def note(book, word):
    with open(f"/ledger/{{book}}", "a") as file:
        file.write(f"{{word}}\\n")


@task(**OPTIONS)
def count(book: str, number: int) -> int:
    note(book, number)
    return number * number


@task(memory="64m")
def parent(book: str, size: int) -> int:
    found = count.batch_trigger_and_wait([{{"book": book, "number": n}} for n in range(size)])
    return sum(one.result() for one in found)


@task(webhook=Webhook("hook", secret="HOOK_SECRET"), **OPTIONS)
def hooked(payload: dict, delivery_id: str) -> None:
    note(payload["book"], delivery_id)


def ticking(number):
    @task(id=f"tick-{{number}}", schedule=Cron("* * * * *", catchup="all"), **OPTIONS)
    def tick(scheduled_at: str) -> None:
        note("ticks", f"{{number}}@{{scheduled_at}}")


for number in range({TICKING}):
    ticking(number)
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with replicas(binaries) as made:
        project = written(tmp_path_factory.mktemp("project"), f"replicas-{uuid.uuid4().hex[:6]}", TASKS)
        made.deploy(project)
        with made.api(0) as api:
            path = f"/api/v1/secrets/HOOK_SECRET?project={project.name}"
            assert api.put(path, json={"value": SECRET}).is_success
        yield made


@pytest.fixture(params=[0, 1], ids=["the first", "the second"])
def victim(request: pytest.FixtureRequest, fleet: Replicas) -> Iterator[int]:
    yield request.param
    # it lives where the test failed before it was killed
    if fleet.processes[f"coordinator{request.param}"].poll() is not None:
        fleet.start_coordinator(request.param)


def book() -> str:
    return f"book-{uuid.uuid4().hex[:8]}"


def once(fleet: Replicas, name: str, words: set[str]) -> None:
    """Each of `words` was done, and done once."""
    eventually(lambda: set(fleet.noted(name)) >= words, f"everything in {name} to be done", 120)
    assert fleet.noted(name) == dict.fromkeys(words, 1)


def again(call: Callable[[], httpx.Response]) -> httpx.Response:
    """As a client does: until it is answered."""

    def answered() -> httpx.Response | None:
        try:
            answer = call()
        except httpx.TransportError:
            return None
        return answer if answer.is_success else None

    found = eventually(answered, "an answer")
    assert found is not None
    return found


@pytest.mark.parametrize("minutes_ago", [0, 1])
def test_in_the_middle_of_a_tick(fleet: Replicas, minutes_ago: int) -> None:
    """The one that fires it is killed between two of the schedules that are due; so is then the other."""
    eventually(lambda: any(fleet.duties(n) for n in (0, 1)), "one to hold the duties")
    (victim,) = [n for n in (0, 1) if "schedules" in (fleet.duties(n) or [])]
    # ticks of the past minutes, which are made up: nobody has to wait for the next minute
    tick = (time.time() // 60 - minutes_ago) * 60

    def fired() -> int:
        return int(fleet.query("SELECT count(*) FROM ticks WHERE at = %s", tick)[0][0])

    before = fired()
    assert before in (0, TICKING)
    fleet.query("UPDATE schedules SET next_at = %s RETURNING id", tick)
    eventually(lambda: fired() > 0, "the first schedules to fire")
    fleet.kill(victim)
    eventually(lambda: fired() == TICKING, "all schedules to fire")
    fleet.start_coordinator(victim)
    eventually(lambda: fleet.all_ended("task LIKE %s", "tick-%"), "the ticks' runs to end", 120)
    assert fleet.query("SELECT count(*) FROM ticks WHERE run_id IS NULL") == [(0,)]
    runs = fleet.query("SELECT count(*) FROM runs WHERE task LIKE %s", "tick-%")
    assert runs == fleet.query("SELECT count(*) FROM ticks")
    assert set(fleet.noted("ticks").values()) == {1}


@pytest.mark.parametrize("moment", ["sent", "stored"])
def test_in_the_middle_of_a_batch_trigger(fleet: Replicas, victim: int, moment: str) -> None:
    name, size = book(), 100
    items = [{"payload": {"book": name, "number": n}, "tags": [name]} for n in range(size)]
    body = {"items": items, "idempotency_key": name}
    stored = "SELECT count(*) FROM run_tags WHERE tag = %s"
    with ThreadPoolExecutor(1) as pool, fleet.api(victim) as api, fleet.api(1 - victim) as other:
        sending = pool.submit(api.post, "/api/v1/tasks/count/runs/batch", json=body)
        if moment == "stored":
            eventually(lambda: fleet.query(stored, name)[0][0], "the runs to be stored")
        fleet.kill(victim)
        sending.exception(60)
        answer = again(lambda: other.post("/api/v1/tasks/count/runs/batch", json=body))
        assert len(answer.json()["items"]) == size
    assert fleet.query(stored, name) == [(size,)]
    once(fleet, name, {str(n) for n in range(size)})
    eventually(lambda: fleet.all_ended("id IN (SELECT run_id FROM run_tags WHERE tag = %s)", name), "all to end")


def test_in_the_middle_of_webhook_deliveries(fleet: Replicas, victim: int) -> None:
    """Whoever sends them sends them again until they are taken, to either."""
    name = book()
    ((project,),) = fleet.query("SELECT name FROM projects")
    taken = threading.Semaphore(0)

    def send(number: int) -> None:
        payload = json.dumps({"book": name}).encode()
        turn = iter(range(10_000))

        def post() -> httpx.Response:
            with fleet.api((victim + next(turn)) % 2) as api:
                headers = {
                    **standard(SECRET, payload, time.time(), id=f"{name}-{number}"),
                    "content-type": "application/json",
                }
                return api.post(f"/hooks/{project}/hook", content=payload, headers=headers)

        again(post)
        taken.release()

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(send, number) for number in range(40)]
        for _ in range(10):
            assert taken.acquire(timeout=60)
        fleet.kill(victim)
        for item in work:
            item.result(60)
    once(fleet, name, {f"{name}-{number}" for number in range(40)})


def test_while_a_parent_waits(fleet: Replicas, victim: int) -> None:
    name, size = book(), 20
    with fleet.api(victim) as api:
        run = api.post("/api/v1/tasks/parent/runs", json={"payload": {"book": name, "size": size}}).json()["id"]
    eventually(lambda: fleet.noted(name), "the children to begin")
    fleet.kill(victim)
    with fleet.client(1 - victim) as client:
        assert client.run(run).result(120) == sum(n * n for n in range(size))
    once(fleet, name, {str(n) for n in range(size)})


def test_postgresql_is_restarted_under_load(fleet: Replicas) -> None:
    """In immediate mode, as if it had crashed, while a hundred runs are made and executed."""
    name, size = book(), 100
    with ThreadPoolExecutor(4) as pool, fleet.api(0) as one, fleet.api(1) as other:

        def trigger(number: int) -> str:
            body = {"payload": {"book": name, "number": number}, "idempotency_key": f"{name}-{number}"}
            api = (one, other)[number % 2]
            return str(again(lambda: api.post("/api/v1/tasks/count/runs", json=body)).json()["id"])

        work = [pool.submit(trigger, number) for number in range(size)]
        eventually(lambda: len(fleet.noted(name)) >= 10, "the load to be on")
        fleet.postgres.stop("immediate")
        fleet.postgres.start()
        runs = [item.result(60) for item in work]
    assert len(set(runs)) == size
    with fleet.client(0) as client:
        assert [client.run(run).result(120) for run in runs] == [n * n for n in range(size)]
    assert set(fleet.noted(name)) == {str(n) for n in range(size)}
    # an end that could not be reported before its lease ran out may be done again; that it was is rare
    assert max(fleet.noted(name).values()) <= 2


def test_nothing_is_left_of_all_that(fleet: Replicas) -> None:
    """No run hangs, and no attempt holds what it does not use."""
    eventually(lambda: fleet.all_ended("task NOT LIKE %s", "tick-%"), "every run to end")
    live = "SELECT count(*) FROM attempts a JOIN runs r ON r.id = a.run_id WHERE r.status <> 'running' "
    assert fleet.query(live + "AND a.status IN ('claimed', 'running')") == [(0,)]
    assert fleet.query("SELECT count(*) FROM runs WHERE status NOT IN ('completed', 'running', 'queued')") == [(0,)]
