"""What a run has reached: the lines of its log, and the counts of each host."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from sidecar.egress.names import Target, authority

#: Lines of a host's connections, and of its refusals of a kind; the rest is summed up at the end.
_LINES_OF_ONE = 3
_LINES = 120
#: Hosts that are counted by themselves.
_HOSTS = 100
#: The name of all beyond them.
OTHERS = ("others", 0)
_LONGEST_REASON = 300
_LONGEST_LINE = 600


class HostCount(msgspec.Struct):
    """As coordinator.wire.EgressHost. `port` 0: all hosts and ports beyond those counted by themselves."""

    host: str
    port: int
    connections: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    refused: int = 0
    reason: str | None = None


class Entry(msgspec.Struct):
    """A line for the log of the run."""

    level: str
    message: str


#: Takes a line for the run's log.
Say = Callable[[Entry], None]


@dataclass
class Call:
    """A connection to a host, counted while it lasts."""

    account: Account
    count: HostCount
    name: str
    began: float
    sent: int = 0
    received: int = 0

    def moved(self, sent: int, received: int) -> bool:
        """Counts bytes that are about to be passed on; whether the run may still pass on any."""
        if not self.account.take(sent + received):
            return False
        self.sent += sent
        self.received += received
        self.count.sent += sent
        self.count.received += received
        return True

    def end(self) -> None:
        self.account.ended(self)


@dataclass
class _Rest:
    """What has no line of its own."""

    lines: int = 0
    connections: int = 0
    sent: int = 0
    received: int = 0


@dataclass
class Account:
    """All that one attempt has reached."""

    attempt: str
    say: Say
    #: Bytes it may pass on, both ways; and has, with what it had before this process.
    limit: int | None = None
    spent: int = 0
    clock: Callable[[], float] = time.monotonic
    changed: bool = False
    exhausted: bool = False
    _hosts: dict[tuple[str, int], HostCount] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _calls: dict[int, Call] = field(default_factory=dict)
    _rests: dict[tuple[str, int], _Rest] = field(default_factory=dict)
    _refusals: dict[tuple[str, str], int] = field(default_factory=dict)
    _lines: int = 0
    _unsaid: int = 0

    def begin(self, wanted: Target) -> Call:
        count = self._count(wanted.host, wanted.port)
        count.connections += 1
        call = Call(self, count, str(wanted), self.clock())
        self._calls[id(call)] = call
        self.changed = True
        return call

    def take(self, size: int) -> bool:
        self.changed = True
        if self.limit is not None and self.spent + size > self.limit:
            if not self.exhausted:
                self.exhausted = True
                text = f"the run has sent and received {_bytes(self.spent)}, and may {_bytes(self.limit)}: no more"
                self._say("warning", text)
            return False
        self.spent += size
        return True

    def ended(self, call: Call) -> None:
        if self._calls.pop(id(call), None) is None:
            return
        seconds = self.clock() - call.began
        call.count.seconds += seconds
        self.changed = True
        key = (call.count.host, call.count.port)
        rest = self._rests.setdefault(key, _Rest())
        if rest.lines < _LINES_OF_ONE and self._lines < _LINES:
            rest.lines += 1
            text = f"{_bytes(call.sent)} sent, {_bytes(call.received)} received in {_seconds(seconds)}"
            self._say("info", f"{call.name}: {text}")
        else:
            rest.connections += 1
            rest.sent += call.sent
            rest.received += call.received

    def refused(self, wanted: Target | None, code: str, message: str, *, warn: bool = True) -> None:
        """Counts a request that was not carried out; `wanted` where it was understood."""
        if wanted is not None:
            count = self._count(wanted.host, wanted.port)
            count.refused += 1
            count.reason = message[:_LONGEST_REASON]
            self.changed = True
        key = (str(wanted), code)
        said = self._refusals.get(key, 0)
        if said < _LINES_OF_ONE and self._lines < _LINES and (said or len(self._refusals) < _LINES):
            self._refusals[key] = said + 1
            self._say("warning" if warn else "info", message)
        else:
            self._unsaid += 1

    def close(self) -> None:
        """Ends all calls and says what had no line of its own."""
        for call in list(self._calls.values()):
            self.ended(call)
        for (host, port), rest in list(self._rests.items()):
            if rest.connections:
                name = authority(host, port) if port else "other hosts"
                more = "connection" if rest.connections == 1 else "connections"
                self._last(
                    "info",
                    f"{name}: {rest.connections} more {more}, {_bytes(rest.sent)} sent,"
                    f" {_bytes(rest.received)} received",
                )
        if self._unsaid:
            self._last("warning", f"{self._unsaid} more requests were refused")

    def hosts(self) -> list[HostCount]:
        """The counts so far, those of open connections with the time that they have been open."""
        now = self.clock()
        seconds: dict[int, float] = {}
        for call in self._calls.values():
            seconds[id(call.count)] = seconds.get(id(call.count), 0.0) + now - call.began
        return [
            msgspec.structs.replace(count, seconds=round(count.seconds + seconds.get(id(count), 0.0), 3))
            for count in self._hosts.values()
        ]

    def _count(self, host: str, port: int) -> HostCount:
        key = (host, port)
        if key not in self._hosts and len(self._hosts) >= _HOSTS:
            key = OTHERS
        return self._hosts.setdefault(key, HostCount(*key))

    def _say(self, level: str, message: str) -> None:
        self._lines += 1
        self.say(Entry(level, message[:_LONGEST_LINE]))

    def _last(self, level: str, message: str) -> None:
        # one for each host at the most, so there is an end of them
        self.say(Entry(level, message[:_LONGEST_LINE]))


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def added(one: list[HostCount], other: list[HostCount]) -> list[HostCount]:
    """The counts of both, of as many hosts as one has."""
    sums: dict[tuple[str, int], HostCount] = {}
    for count in (*one, *other):
        key = (count.host, count.port)
        if key not in sums and len(sums) >= _HOSTS:
            key = OTHERS
        known = sums.setdefault(key, HostCount(*key))
        known.connections += count.connections
        known.sent += count.sent
        known.received += count.received
        known.seconds = round(known.seconds + count.seconds, 3)
        known.refused += count.refused
        known.reason = count.reason or known.reason
    return list(sums.values())
