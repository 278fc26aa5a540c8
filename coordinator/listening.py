"""Where the coordinator listens: beyond loopback only where keys don't cross a network in the clear."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from typing import Any, NamedTuple

from coordinator.foundation.errors import CoordinatorError
from coordinator.settings import Settings

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>[0-9]{1,5})")


class UnsafeAddress(CoordinatorError):
    """The address may not be listened on with these settings."""

    code = "unsafe_address"


class Address(NamedTuple):
    host: str
    port: int


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a listener at `host`; every address of a name counts."""
    if not host:
        return False
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def fleet(settings: Settings) -> list[Address]:
    """Where runners and sidecars have listeners of their own. Raises UnsafeAddress for what is no address."""
    found = []
    for part in filter(None, (part.strip() for part in settings.fleet_listen.split(","))):
        match = _ADDRESS.fullmatch(part)
        if match is None or int(match["port"]) > 65535:
            raise UnsafeAddress(f"fleet_listen: {part!r} is no HOST:PORT, such as 127.0.0.1:7421 or [::1]:7421")
        found.append(Address(match["six"] or match["host"], int(match["port"])))
    return found


def check(settings: Settings) -> None:
    """Raises UnsafeAddress with the remedies, and where TLS can't be had with the files that are given."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if settings.tls_key is None else ("tls_key", "tls_cert")
        raise UnsafeAddress(f"{missing}: missing beside {given}; TLS takes the certificate and its key")
    if settings.local_port is not None and settings.tls_cert is None:
        raise UnsafeAddress("local_port: is for a coordinator with TLS; without it there is --port")
    hosts = [("host", settings.host), *(("fleet_listen", address.host) for address in fleet(settings))]
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise UnsafeAddress(
                f"tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {error.strerror or error}; give a "
                "certificate in PEM and the private key that belongs to it, without a passphrase"
            ) from None
        return
    if settings.behind_proxy or settings.trusted_proxies.strip():
        return
    for name, host in hosts:
        if not is_loopback(host):
            raise UnsafeAddress(
                f"{name} {host!r}: listening beyond this machine without TLS shows keys and payloads to the "
                "network. Give --tls-cert and --tls-key; or, where a proxy with TLS or a private network of "
                "containers is in front, say so with --behind-proxy; or stay on 127.0.0.1"
            )


def tls(settings: Settings) -> dict[str, Any]:
    """uvicorn's settings for it."""
    if settings.tls_cert is None or settings.tls_key is None:
        return {}
    return {"ssl_certfile": str(settings.tls_cert), "ssl_keyfile": str(settings.tls_key)}
