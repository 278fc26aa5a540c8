"""Requests made of the OpenAPI document: whatever they hold, no answer is 5xx. `make fuzz-api` makes many."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase

from tests.security.attempts import attempt
from tests.security.clients import Seat, seat
from tests.unit.coordinator.conftest import ADMIN, ok

#: Examples of each operation where no time is given; else as many as go into it.
EXAMPLES = 4
SECONDS = float(os.environ.get("SAMOVAR_FUZZ_SECONDS", "0"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    with seat(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


@attempt("client", "requests made of the OpenAPI document at random", "one strict wire", "no 5xx")
def test_no_request_is_answered_5xx(here: Seat) -> None:
    document = ok(here.api.client(None).get("/openapi.json"))
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    assert len(operations) > 40
    until = time.monotonic() + SECONDS
    seed = 0
    client = here.api.client(ADMIN)
    while True:
        for operation in operations:
            _examples(here, client, operation, EXAMPLES if not SECONDS else 50, seed)
        seed += 1
        if time.monotonic() >= until:
            break
    client.close()
    assert here.alive()


def _examples(here: Seat, client: Any, operation: Any, count: int, seed: int) -> None:
    streams = operation.path.endswith("/stream")

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        wanted = case.as_transport_kwargs(base_url=here.api.url)
        query = dict(wanted.get("params") or {})
        for name, value in (("timeout", "0"),):
            if name in query:
                query[name] = value
        arguments = {name: wanted[name] for name in ("json", "data") if wanted.get(name) is not None}
        if "data" in arguments:
            arguments["content"] = arguments.pop("data")
        path = wanted["url"].removeprefix(here.api.url)
        run = here.theirs["run"]
        if "{run}" in operation.path and len(path) % 2:  # half of them about what there is
            path = operation.path.replace("{run}", run)
        if streams or path.endswith("/wait"):
            query["timeout"] = "0"
        headers = {
            name: value
            for name, value in dict(wanted.get("headers") or {}).items()
            if name.lower() in ("content-type", "last-event-id")
        }
        with client.stream(case.method, path, params=query, headers=headers, **arguments) as answer:
            text = "" if streams else answer.read().decode("utf-8", "replace")
            assert answer.status_code < 500, (case.method, path, query, arguments, text)

    ask()
