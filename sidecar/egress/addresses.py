"""Internet addresses: which of them are public, and why the others are not."""

from __future__ import annotations

import errno
import ipaddress
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

_V4: list[tuple[IPv4Network, str]] = [
    (IPv4Network(block), kind)
    for block, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]

#: The first that fits says what an address is.
_V6: list[tuple[IPv6Network, str]] = [
    (IPv6Network(block), kind)
    for block, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "reserved"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmark"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
]
_GLOBAL = IPv6Network("2000::/3")

#: Where clouds tell a machine who it is and what it may do; most are in no block that says so.
_METADATA: frozenset[Address] = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"))
)

#: What the operator's policy opens no way to either: they name no host, or one that nobody means.
_NEVER = frozenset({"unspecified", "link-local", "multicast", "metadata"})

#: Nobody has these: who can bind one can bind any, and learns nothing by it.
_NOBODYS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def kind(address: Address) -> str | None:
    """What makes `address` none of the public ones; None where it is public."""
    if address in _METADATA:
        return "metadata"
    if isinstance(address, IPv4Address):
        found = next((name for block, name in _V4 if address in block), None)
    else:
        found = next((name for block, name in _V6 if address in block), None)
        if found is None and (address not in _GLOBAL or address.scope_id is not None):
            found = "reserved"
    # what the registry has learned of since
    return found or (None if address.is_global else "reserved")


def never(address: Address) -> bool:
    """Whether no policy makes `address` reachable."""
    return kind(address) in _NEVER


def own(address: Address) -> bool:
    """Whether `address` is one of this host (as far as this process sees it): who can bind it, has it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return _bindable(family, str(address)) and not _bindable(family, _NOBODYS[family])


def _bindable(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return True
