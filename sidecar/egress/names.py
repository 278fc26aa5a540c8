"""Hosts as requests and rules name them: a plain name, or an address in its one canonical form."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from sidecar.egress.addresses import Address
from sidecar.egress.errors import Refused

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: The last label of what some resolvers take for an address: decimal, octal or hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LONGEST = 253


@dataclass(frozen=True)
class Target:
    """`host` in lower case and without a trailing dot; `address` where it is one."""

    host: str
    port: int
    address: Address | None = None

    def __str__(self) -> str:
        return authority(self.host, self.port)


def authority(host: str, port: int) -> str:
    """`host:port` as it stands in a rule."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def target(text: str, port: int | None = None) -> Target:
    """The target in `name:port`, `address:port` or `[address]:port`.

    `port` is that of a text without one. Raises Refused (`bad_target`) for any other notation.
    """
    host, sign, number = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not sign:
        host = text
        if port is None:
            raise _bad(text, "it has no port: write name:port")
    else:
        if not _PORT.fullmatch(number) or int(number) > 65535:
            raise _bad(text, "its port is no number from 1 to 65535")
        port = int(number)
    assert port is not None
    name, address = named(host)
    return Target(name, port, address)


def named(text: str) -> tuple[str, Address | None]:
    """The host in `text`, and its address where it is one. Raises Refused (`bad_target`)."""
    host = text.lower()
    if not text.isascii():
        raise _bad(text, "write a name in its ASCII form (xn--…)")
    if host.startswith("[") and host.endswith("]"):
        return _literal(text, host[1:-1], 6)
    if host.endswith("."):
        host = host[:-1]
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _literal(text, text, 4)
    if len(host) > _LONGEST or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad(text, "it is no name of a host")
    return host, None


def _literal(text: str, host: str, version: int) -> tuple[str, Address]:
    """Only as everybody writes it: what this process reads as one address, others read as another."""
    if "%" in host:
        raise _bad(text, "an address of a zone is nobody's on the net")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _bad(text, "it is no address in the usual form") from None
    if address.version != version or str(address) != host:
        raise _bad(text, f"write the address as {address}")
    return host, address


def _bad(text: str, problem: str) -> Refused:
    return Refused(400, "bad_target", f"{text[:300]!r} can't be reached: {problem}")
