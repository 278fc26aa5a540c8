"""What an attempt has reached: kept under its token, also for a while after its end."""

from __future__ import annotations

import pytest

from coordinator.attempts import egress
from coordinator.foundation.errors import StaleAttempt
from coordinator.runs import runs, views
from coordinator.wire import AttemptEgress, EgressHost
from tests.conformance.store import Store


def account(token: int, *hosts: EgressHost) -> AttemptEgress:
    return AttemptEgress(token=token, hosts=list(hosts))


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
