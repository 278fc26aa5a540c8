"""Where the coordinator listens: beyond loopback only where keys don't cross a network in the clear."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Any

from coordinator.foundation.errors import CoordinatorError
from coordinator.settings import Settings


class UnsafeAddress(CoordinatorError):
    """The address may not be listened on with these settings."""

    code = "unsafe_address"


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a listener at `host`; every address of a name counts."""
    if not host:
        return False
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def check(settings: Settings) -> None:
    """Raises UnsafeAddress with the remedies, and where TLS can't be had with the files that are given."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if settings.tls_key is None else ("tls_key", "tls_cert")
        raise UnsafeAddress(f"{missing}: missing beside {given}; TLS takes the certificate and its key")
    if settings.local_port is not None and settings.tls_cert is None:
        raise UnsafeAddress("local_port: is for a coordinator with TLS; without it there is --port")
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise UnsafeAddress(
                f"tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {error.strerror or error}; give a "
                "certificate in PEM and the private key that belongs to it, without a passphrase"
            ) from None
        return
    if not (settings.behind_proxy or settings.trusted_proxies.strip() or is_loopback(settings.host)):
        raise UnsafeAddress(
            f"host {settings.host!r}: listening beyond this machine without TLS shows keys and payloads to the "
            "network. Give --tls-cert and --tls-key; or, where a proxy with TLS or a private network of containers "
            "is in front, say so with --behind-proxy; or stay on 127.0.0.1"
        )


def tls(settings: Settings) -> dict[str, Any]:
    """uvicorn's settings for it."""
    if settings.tls_cert is None or settings.tls_key is None:
        return {}
    return {"ssl_certfile": str(settings.tls_cert), "ssl_keyfile": str(settings.tls_key)}
