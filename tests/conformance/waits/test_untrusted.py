"""A run of code that is not trusted asks for nothing beyond itself."""

from __future__ import annotations

import pytest

from coordinator.foundation.errors import Invalid
from tests.conformance.store import Store, task_entry

ASKED = {
    "trigger": {"payload": {}, "options": {}},
    "batch_trigger": {"items": [{"payload": {}}]},
    "batch": {"items": [{"payload": {}}]},
    "run": {"payload": {}, "options": {}},
    "token": {"timeout": 60},
}


@pytest.mark.parametrize("kind", ASKED)
def test_what_reaches_out_is_refused(store: Store, kind: str) -> None:
    store.deploy(task_entry("greet", trust="untrusted"), task_entry("other"))
    claimed = store.started()
    with pytest.raises(Invalid, match="untrusted"):
        store.wait(claimed, kind, name=None if kind == "token" else "other", **ASKED[kind])
    assert store.wait(claimed, "sleep", seconds=1).row.status == "pending"


@pytest.mark.parametrize("kind", ["trigger", "token"])
def test_who_is_trusted_may(store: Store, kind: str) -> None:
    store.deploy(task_entry("greet"), task_entry("other"))
    claimed = store.started()
    assert store.wait(claimed, kind, name=None if kind == "token" else "other", **ASKED[kind]).row.kind == kind
