"""What a container may reach: a task's `network` and the operator's policy, as container and sidecar are told it.

A container has no network interface. Process 1 listens on loopback, where the container's names and proxy
variables lead, and hands bytes to the sidecar, which holds every limit: what the container is told is its comfort.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator
from samovar import wire

from coordinator.wire import Duration, Egress, Memory

#: A container's whole network: "none", "public", "open", or hosts in order, each once.
Reach = str | tuple[str, ...]

MOST_HOSTS = 100

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ITEM = re.compile(rf"(?P<below>\*\.)?(?P<name>(?=.{{1,253}}:){_LABEL}(?:\.{_LABEL})*):(?P<port>[1-9][0-9]{{0,4}})")
#: A last part by which a resolver takes a name for an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


class Network(BaseModel):
    """What the policy says of networks: what tasks may reach beyond public addresses, and how much one run may."""

    model_config = ConfigDict(extra="forbid")

    #: Whether network="open", Docker's bridge, is there.
    open: bool = False
    #: `"name:port"` that lists may reach at addresses which are not public.
    private: Annotated[list[Annotated[str, Field(max_length=260)]], Field(max_length=10_000)] = Field(
        default_factory=list
    )
    #: What "public" may reach besides 443, and 80 in plain HTTP.
    ports: Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=1000)] = Field(
        default_factory=list
    )
    #: Open at a time.
    connections: Annotated[int, Field(ge=1, le=10_000)] = 256
    #: Of one run, both ways; None: no end.
    bytes: Memory | None = None
    #: Seconds that a connection may carry nothing.
    idle: Duration = Field(300.0, gt=0)

    @field_validator("private")
    @classmethod
    def _private(cls, value: list[str]) -> list[str]:
        for item in value:
            if (found := _ITEM.fullmatch(item)) is None or found["below"] or problem(item, [item]) is not None:
                raise ValueError(
                    f'{item!r} is not "name:port", in lower case, such as "db.internal:5432" or "10.0.0.5:5432"'
                )
        return value

    @field_validator("bytes")
    @classmethod
    def _bytes(cls, value: int | None) -> int | None:
        if value is not None and not 1 <= value <= 2**53:
            raise ValueError('give an amount such as "10g", at least one byte')
        return value


def normal(network: str | Sequence[str]) -> Reach:
    """The same for every way to write the same, so that containers can be shared."""
    return network if isinstance(network, str) else tuple(sorted(set(network)))


def problem(item: str, private: Iterable[str]) -> str | None:
    """What is wrong with an item of a list on this host; the index that it comes from is a deployer's."""
    found = _ITEM.fullmatch(item)
    if found is None or int(found["port"]) > 65535:
        return f'{item!r:.300} is not "host:port" or "*.domain:port", in lower case'
    if _NUMBER.fullmatch(found["name"].rpartition(".")[2]):
        if found["below"] or not _ADDRESS.fullmatch(found["name"]):
            return f"{item!r}: an address is written as four numbers, such as 10.0.0.5"
        if item not in private:
            return (
                f"{item!r}: an address is reached only where the operator allows it: policy.toml, [network] "
                f'private = ["{item}"]'
            )
    return None


def egress(network: Reach, policy: Network) -> Egress | None:
    """What the sidecar lets a container reach."""
    limits = {"connections": policy.connections, "bytes": policy.bytes, "idle": policy.idle}
    if network == "public":
        return Egress(mode="public", ports=policy.ports, **limits)
    if isinstance(network, str):
        return None
    private = [item for item in policy.private if any(_covers(asked, item) for asked in network)]
    return Egress(mode="list", hosts=list(network), private=private, **limits)


def relays(network: Reach) -> list[tuple[str, int, str]]:
    """(loopback address, port, name): where a container finds the names of its list, each at an address of its own.

    No such place for names below a domain, and for addresses: no file of hosts leads there, but the proxy does.
    """
    if isinstance(network, str):
        return []
    named = [(found["name"], int(found["port"])) for item in network if (found := _exact(item))]
    places = {name: f"127.0.0.{number}" for number, name in enumerate(sorted({name for name, _ in named}), 2)}
    return [(places[name], port, name) for name, port in named]


def hosts(network: Reach) -> dict[str, str]:
    """Entries of the container's /etc/hosts."""
    return {name: address for address, _, name in relays(network)}


def told(network: Reach) -> str | None:
    """What process 1 is told, as JSON; None where there is nothing to listen for."""
    if network in ("none", "open"):
        return None
    proxied = isinstance(network, str) or any(_exact(item) is None for item in network)
    below = [] if isinstance(network, str) else [item.rpartition(":")[0][1:] for item in network if item[0] == "*"]
    # clients take NO_PROXY's names for all below them, too
    direct = [name for name in hosts(network) if not any(f".{name}".endswith(domain) for domain in below)]
    direct = [name for name in direct if not any(domain.endswith(f".{name}") for domain in below)]
    given = {"proxy": wire.EGRESS_PROXY if proxied else None, "relays": relays(network), "direct": direct}
    return json.dumps(given)


def _exact(item: str) -> re.Match[str] | None:
    found = _ITEM.fullmatch(item)
    return found if found and not found["below"] and not _ADDRESS.fullmatch(found["name"]) else None


def _covers(asked: str, item: str) -> bool:
    return asked == item or (asked.startswith("*.") and item.endswith(asked[1:]))
