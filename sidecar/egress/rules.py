"""What one container may reach: which targets, and at which addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from sidecar.egress import addresses
from sidecar.egress.addresses import Address
from sidecar.egress.errors import Refused
from sidecar.egress.names import Target, authority, target

_CONNECT = 443
_PLAIN = 80
#: Hosts of a rule that a refusal names.
_NAMED = 5


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As coordinator.wire.Egress, which this process does not import: it needs a tenth of the memory without."""

    mode: str
    hosts: list[str] = []
    private: list[str] = []
    ports: list[int] = []
    connections: int = 256
    bytes: int | None = None
    idle: float = 300.0


class Hosts:
    """A list of `"name:port"` and `"*.name:port"`."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises Refused (`bad_target`) for an entry that is neither."""
        self._exact: set[tuple[str, int]] = set()
        self._below: set[tuple[str, int]] = set()
        for entry in entries:
            text = entry.strip()
            try:
                found = target(text.removeprefix("*."))
            except Refused as error:
                raise Refused(400, "bad_target", f"{entry[:300]!r} is no name:port: {error}") from None
            if text.startswith("*.") and found.address is None:
                self._below.add((found.host, found.port))
            elif text.startswith("*."):
                raise Refused(400, "bad_target", f"{entry!r}: there are no names below an address")
            else:
                self._exact.add((found.host, found.port))

    def __contains__(self, wanted: Target) -> bool:
        if (wanted.host, wanted.port) in self._exact:
            return True
        if wanted.address is not None:
            return False
        labels = wanted.host.split(".")
        return any((".".join(labels[i:]), wanted.port) in self._below for i in range(1, len(labels)))

    def ports_of(self, host: str) -> list[int]:
        return sorted(port for name, port in self._exact if name == host)


@lru_cache(maxsize=16)
def _private(entries: tuple[str, ...]) -> Hosts:
    """The policy's, which is the same for many containers."""
    return Hosts(entries)


class Rules:
    """Decides; knows nothing of connections."""

    def __init__(self, limits: Limits, own: Callable[[Address], bool] = addresses.own) -> None:
        """`own`: whether an address is this host's. Raises Refused (`bad_target`) for hosts that are none."""
        self.limits = limits
        self._public = limits.mode == "public"
        self._build = limits.mode == "build"
        self._hosts = Hosts(limits.hosts)
        self._private = _private(tuple(limits.private))
        self._ports = frozenset(limits.ports)
        self._own = own

    def check(self, wanted: Target, *, plain: bool) -> None:
        """Whether a request may be made at all, before its name is resolved. `plain`: HTTP without TLS.

        Raises Refused (`not_allowed`, `port_not_allowed`, `not_public`).
        """
        if not self._public:
            if wanted not in self._hosts:
                raise self._not_listed(wanted)
        else:
            if wanted.port != (_PLAIN if plain else _CONNECT) and wanted.port not in self._ports:
                raise Refused(
                    403,
                    "port_not_allowed",
                    f'{wanted} can\'t be reached: port {wanted.port} is not open with network="public"'
                    f" ({_PLAIN} for plain HTTP, {_CONNECT} for CONNECT); {_add(wanted)}",
                )
        if wanted.address is not None:
            self.admit(wanted, [wanted.address])

    def admit(self, wanted: Target, found: list[Address]) -> bool:
        """Whether all addresses that `wanted` was resolved to are public; else the operator has to allow them.

        One that is not allowed is enough to refuse them all: who answers so does not mean well.
        Raises Refused (`not_public`).
        """
        bad = [(address, kind) for address in found if (kind := self._kind(address)) is not None]
        if not bad:
            return True
        allowed = not self._public and wanted in self._private
        for address, kind in bad:
            if addresses.never(address):
                raise Refused(403, "not_public", f"{_at(wanted)} that nothing opens ({kind})")
            if not allowed and self._build:
                raise Refused(403, "not_public", f"{_at(wanted)} that is not public ({kind}); {_allow(wanted)}")
            if not allowed:
                raise Refused(
                    403,
                    "not_public",
                    f"{_at(wanted)} that is not public ({kind}); where that is meant, the operator adds"
                    f' "{wanted}" to private in [network] of policy.toml'
                    + (f", and you: {_add(wanted)}" if self._public else ""),
                )
        return False

    def _not_listed(self, wanted: Target) -> Refused:
        ports = self._hosts.ports_of(wanted.host)
        code = "port_not_allowed" if ports else "not_allowed"
        if self._build:
            return Refused(403, code, f"{wanted} is no package index of this host; {_allow(wanted)}")
        others = ", ".join(authority(wanted.host, port) for port in ports[:_NAMED])
        which = f" (which has {others})" if ports else ""
        return Refused(403, code, f"{wanted} is not in the task's network{which}; {_add(wanted)}")

    def _kind(self, address: Address) -> str | None:
        return addresses.kind(address) or ("this host's own" if self._own(address) else None)


def _at(wanted: Target) -> str:
    # not which one: what names of the own network are at is nobody's to ask here
    return f"{wanted} can't be reached: it is {'' if wanted.address else 'at '}an address"


def _allow(wanted: Target) -> str:
    return f'where that is meant, the operator adds "{wanted}" to hosts in [builds] of policy.toml'


def _add(wanted: Target) -> str:
    return f'add "{wanted}" to @task(network=[…])'
