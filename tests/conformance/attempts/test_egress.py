"""What an attempt has reached: kept under its token, also for a while after its end."""

from __future__ import annotations

import pytest

from coordinator.attempts import egress
from coordinator.foundation.errors import StaleAttempt
from coordinator.runs import runs, views
from coordinator.wire import AttemptEgress, EgressHost
from tests.conformance.store import Store


def account(token: int, *hosts: EgressHost, boot: str = "b1") -> AttemptEgress:
    return AttemptEgress(token=token, boot=boot, hosts=list(hosts))


API = EgressHost(host="api.example.com", port=443, connections=2, sent=100, received=2**40, seconds=1.5)
REFUSED = EgressHost(host="other.example.com", port=22, refused=3, reason="not in the task's network")


def test_the_last_account_is_what_counts(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    assert views.attempt(store.attempts(claimed.run.id)[0]).egress == []
    store.write(egress.store, claimed.attempt, account(claimed.token, REFUSED))
    store.write(egress.store, claimed.attempt, account(claimed.token, API, REFUSED))
    (row,) = store.read(runs.list_attempts, claimed.run.id)
    assert views.attempt(row).egress == [API, REFUSED]
    # it takes its room once
    assert row.log_bytes == len(row.egress)


def test_what_was_reached_by_another_sidecar_is_added(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for boot, times in (("b1", 1), ("b1", 2), ("b2", 1), ("b2", 2), ("b3", 1)):
        host = EgressHost(host="a.example.com", port=443, connections=times, sent=10 * times, seconds=0.5 * times)
        store.write(egress.store, claimed.attempt, account(claimed.token, host, REFUSED, boot=boot))
    (row,) = store.read(runs.list_attempts, claimed.run.id)
    first, second = views.attempt(row).egress
    assert (first.connections, first.sent, first.seconds) == (5, 50, 2.5)
    assert (second.refused, second.reason) == (9, REFUSED.reason)


def test_a_hundred_hosts_are_counted_and_the_rest_is_summed_up(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for boot in range(3):
        hosts = [EgressHost(host=f"{boot}-{n}.example.com", port=443, refused=10**9) for n in range(100)]
        store.write(egress.store, claimed.attempt, account(claimed.token, *hosts, boot=str(boot)))
    (row,) = store.read(runs.list_attempts, claimed.run.id)
    shown = views.attempt(row).egress
    assert len(shown) == 101
    assert (shown[-1].host, shown[-1].port, shown[-1].refused) == ("others", 0, 10**9)


def test_it_is_taken_for_a_minute_after_the_end_and_never_with_another_token(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    with pytest.raises(StaleAttempt):
        store.write(egress.store, claimed.attempt, account(claimed.token + 1, API))
    store.lose(claimed)
    store.now += 30
    store.write(egress.store, claimed.attempt, account(claimed.token, API))
    store.now += 60
    with pytest.raises(StaleAttempt):
        store.write(egress.store, claimed.attempt, account(claimed.token))
    assert views.attempt(store.attempts(claimed.run.id)[0]).egress == [API]
