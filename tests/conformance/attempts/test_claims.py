"""Claims: who gets which run, and that nobody gets another's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from coordinator.attempts import checkpoints, claims
from coordinator.foundation.limits import LEASE, PRELOAD, STARVING
from coordinator.storage.values import Stored
from tests.conformance.store import GIB, MIB, Store, task_entry


def test_a_claim_gives_the_run_an_attempt_under_a_lease(store: Store) -> None:
    store.deploy()
    run = store.trigger(payload={"n": 1})
    store.now += 2
    claimed = store.claim_one()
    after = store.run(run.id)
    assert (after.status, after.attempts, after.current_attempt) == ("running", 1, claimed.attempt)
    assert after.queued_ms == 2000
    (attempt,) = store.attempts(run.id)
    assert (attempt.status, attempt.runner, attempt.lease_until) == ("claimed", "r1", store.now + LEASE)
    assert claimed.image.startswith("samovar/orders:")
    assert claimed.payload == Stored('{"n":1}')
    assert store.claim() == []


def test_priority_then_age(store: Store) -> None:
    store.deploy()
    old = store.trigger()
    store.now += 5
    ahead = store.trigger(priority=60)
    store.now += 5
    young = store.trigger()
    assert [store.claim_one().run.id for _ in range(3)] == [ahead.id, old.id, young.id]


def test_what_does_not_fit_is_passed_over(store: Store) -> None:
    store.deploy(task_entry("large", memory=3 * GIB), task_entry("small", memory=GIB))
    large = store.trigger("large")
    store.now += 1
    small = store.trigger("small")
    assert store.claim_one(memory=2 * GIB).run.id == small.id
    assert store.claim("r2", memory=2 * GIB) == []
    assert store.claim_one("r2", memory=3 * GIB).run.id == large.id


def test_what_is_held_is_taken_off_and_comes_back(store: Store) -> None:
    store.deploy(task_entry("greet", memory=GIB))
    for _ in range(3):
        store.trigger()
    first = store.claim(memory=2 * GIB, most=5)
    assert len(first) == 2
    assert store.claim(memory=2 * GIB) == []
    store.complete(first[0])
    assert len(store.claim(memory=2 * GIB, most=5)) == 1


def test_slots_are_derived_the_same_way(store: Store) -> None:
    store.deploy()
    for _ in range(3):
        store.trigger()
    claimed = store.claim_one(slots=1)
    assert store.claim(slots=1) == []
    store.lose(claimed, "rejected")
    assert len(store.claim(slots=1)) == 1


def test_a_large_run_is_not_passed_for_ever(store: Store) -> None:
    store.deploy(task_entry("large", memory=3 * GIB), task_entry("small", memory=GIB))
    small = store.started("small")
    large = store.trigger("large", priority=1)
    store.trigger("small")
    store.now += STARVING + 1
    assert store.claim(memory=3 * GIB) == []
    assert store.claim("no room at all", memory=2 * GIB) != []
    store.complete(small)
    assert store.claim_one(memory=3 * GIB).run.id == large.id


def test_claims_that_race_never_give_a_run_twice(store: Store) -> None:
    store.deploy()
    made = {store.trigger().id for _ in range(40)}

    def take(n: int) -> list[str]:
        found: list[str] = []
        while claimed := store.claim(f"r{n}", most=3):
            found += [c.run.id for c in claimed]
        return found

    with ThreadPoolExecutor(8) as pool:
        taken = [run for found in pool.map(take, range(8)) for run in found]
    # SKIP LOCKED may show a racing claim an empty line while others hold its head: whoever asks again gets it
    taken += take(9)
    assert sorted(taken) == sorted(made)


def test_one_runners_claims_that_race_keep_to_its_memory(store: Store) -> None:
    store.deploy(task_entry("greet", memory=GIB))
    for _ in range(20):
        store.trigger()
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: len(store.claim(memory=3 * GIB, most=2)), range(12)))
    assert sum(taken) == 3


def test_an_expired_run_is_not_claimed(store: Store) -> None:
    store.deploy(task_entry("greet", ttl=10.0))
    run = store.trigger()
    store.now += 11
    assert store.claim() == []
    store.sweep()
    assert store.run(run.id).status == "expired"


def test_the_token_rises_with_every_attempt(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    tokens = []
    for _ in range(3):
        claimed = store.claim_one()
        tokens.append(claimed.token)
        store.lose(claimed)
        store.now += 60
        store.sweep()
    assert tokens == sorted(set(tokens))
    assert [a.number for a in store.attempts(run.id)] == [1, 2, 3]


def test_checkpoints_are_sent_along_up_to_a_size(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    text = '"' + "a" * (PRELOAD // 2 - 3) + '"'
    for key in ("one", "two", "three"):
        store.write(checkpoints.put, claimed.attempt, claimed.token, key, Stored(text, None, len(text)))
    store.lose(claimed)
    again = store.claim_one()
    assert [key for key, _ in again.checkpoints] == ["one", "two"]
    assert not again.checkpoints_complete
    assert claimed.checkpoints_complete


def test_a_runner_that_starts_again_finds_what_it_has(store: Store) -> None:
    store.deploy()
    mine = store.started(payload={"n": 1})
    store.trigger()
    store.claim_one("r2")
    store.now += 20
    (found,) = store.write(claims.live, "r1")
    assert (found.attempt, found.token, found.payload) == (mine.attempt, mine.token, mine.payload)
    assert store.attempts(mine.run.id)[0].lease_until == store.now + LEASE


def test_a_live_runner_is_not_offered_what_only_its_memory_forbids(store: Store) -> None:
    store.deploy(task_entry("greet", memory=64 * MIB))
    store.trigger()
    assert store.claim(memory=16 * MIB) == []
    assert store.claim_one(memory=64 * MIB).memory == 64 * MIB
