"""The container protocol, said wrong in every way to a real sidecar: it neither ends, nor hangs, nor grows."""

from __future__ import annotations

import contextlib
import json
import random
import time
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from samovar import wire

from tests.security.hostile import Process1, Sidecar, sidecar

MIB = 1024 * 1024
#: What the sidecar may grow by, however long it is: caches, the allocator, what is in flight.
_GROWTH = 128 * MIB
#: Containers come and go, as on a host.
_EXAMPLES_OF_A_CONTAINER = 20

NAMES = [
    *("id", "type", "attempt", "protocol", "ticket", "error", "memory", "key", "value", "kind", "name", "spec"),
    *("index", "lines", "dropped", "progress", "metadata", "seconds", "outcome", "result", "retry", "waits"),
    *("usage", "container", "reply", "ok", "token", "secret", "at", "seq"),
]
OWN = "@own@"

words = st.sampled_from([OWN, "", "c0", "completed", "failed", "waiting", "sleep", "token", "stdout", "x" * 600])
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=True), st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**400])
)
leaves = st.one_of(st.none(), st.booleans(), numbers, words, st.text(max_size=30))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=15,
)
lines = st.lists(
    st.fixed_dictionaries(
        {"seq": numbers, "at": numbers, "level": words, "stream": words, "message": words},
        optional={"logger": words, "partial": st.booleans(), "replaces": numbers, "x": trees},
    ),
    max_size=5,
)
kinds = st.one_of(st.sampled_from(sorted(wire.REQUESTS)), st.sampled_from(["", "assign", "x"]), trees)
messages = st.fixed_dictionaries(
    {"id": numbers, "type": kinds},
    optional={
        **dict.fromkeys(NAMES[5:], trees),
        "attempt": st.just(OWN) | leaves,
        "key": words,
        "lines": lines | trees,
        "outcome": words,
    },
)


def encoded(message: Any) -> bytes:
    return json.dumps(message).encode()


#: How a line is spoiled after it was written: with a random source, so that it can be done to long ones too.
def mangled(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data) + 1)
    return source.choice(
        [
            data[:at],
            data[:at] + source.randbytes(8) + data[at:],
            data[:at] + b"\n" + data[at:],
            data[:at] + b"[" * 100_000 + data[at:],
            data[:at] + b'"' + b"x" * source.choice([1000, 600_000, 5 * MIB, 11 * MIB]) + b'"' + data[at:],
            data[:at] + data[:at],
            data.replace(b'"', b"", 1),
            data.replace(b":", b":NaN", 1),
            data + b"\0",
            b"\xef\xbb\xbf" + data,
            data.replace(b"{", b'{"id":1,"id":2,', 1),
            data.replace(b'"', b'"\\ud800', 1),
        ]
    )


plans = st.lists(st.tuples(messages, st.booleans(), st.integers(0, 2**32)), min_size=1, max_size=12)


class Fuzzer:
    def __init__(self, host: Sidecar) -> None:
        self.host = host
        self.examples = 0
        self.lines = 0
        self.name = ""
        self.first = 0

    def renew(self) -> None:
        if self.name:
            self.host.control.ask("forget", self.name)
        self.name = self.host.container()

    def example(self, plan: list[tuple[Any, bool, int]]) -> None:
        if self.examples % _EXAMPLES_OF_A_CONTAINER == 0:
            self.renew()
            self.well()
        self.examples += 1
        process1 = self.enter()
        for message, spoiled, seed in plan:
            data = encoded(message).replace(OWN.encode(), self.name.encode())
            if spoiled:
                data = mangled(data, random.Random(seed))
            self.lines += 1
            if not process1.say(data + b"\n"):
                break
        process1.close()

    def enter(self) -> Process1:
        """Connected, with the right ticket where there is one; in a new container where this one is still busy."""
        try:
            process1 = self.host.visit(self.name, 3)
        except AssertionError:
            self.renew()
            process1 = self.host.visit(self.name)
        process1.socket.settimeout(3)
        hello = {
            "id": 1,
            "type": "hello",
            "protocol": 1,
            "attempt": self.name,
            "ticket": self.host.tickets.get(self.name),
        }
        with contextlib.suppress(OSError, AssertionError):
            process1.say(encoded(hello) + b"\n")
            answer = process1.reply(1)
            if answer.get("ok"):
                self.host.tickets[self.name] = answer["ticket"]
        return process1

    def well(self) -> None:
        """It is there, serves another container, has said nothing of a failure, and has not grown."""
        assert self.host.process.poll() is None, self.host.said()
        name = self.host.container()
        process1 = self.host.greeted(name)
        assert process1.ask("checkpoint.put", attempt=name, key="k", value=1)["ok"]
        process1.close()
        self.host.control.ask("forget", name)
        said = self.host.said()
        assert "Traceback" not in said, said
        del self.host.coordinator.calls[:]
        memory = self.host.memory()
        self.first = self.first or memory
        assert memory - self.first < _GROWTH, f"grown from {self.first} to {memory} bytes"


def fuzz(seconds: float) -> str:
    """Tries for so long; what was tried. Raises AssertionError with what broke, and the lines that broke it."""
    with sidecar() as host:
        fuzzer = Fuzzer(host)
        end = time.monotonic() + seconds

        @settings(
            max_examples=10_000_000,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(plans)
        def examples(plan: list[tuple[Any, bool, int]]) -> None:
            if time.monotonic() > end:
                raise TimeIsUp
            fuzzer.example(plan)

        with contextlib.suppress(TimeIsUp):
            examples()
        fuzzer.well()
        grown = (host.memory() - fuzzer.first) // 1024
        return f"{fuzzer.examples} connections, {fuzzer.lines} lines, {grown} KiB more"


class TimeIsUp(BaseException):
    """Not an Exception: nothing has failed."""
