"""Addresses and ports that `samovar up` listens at."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
from pathlib import Path

from samovar.cli.errors import CliError

#: A free port is looked for from here on, so often by chance.
_LEAST_PORT, _TRIES = 10240, 50


def check_address(host: str, cert: Path | None, key: Path | None, behind_proxy: bool, flag: str = "--host") -> None:
    """Raise CliError where the port would show keys to a network."""
    if (cert is None) != (key is None):
        raise CliError("TLS takes both --tls-cert and --tls-key", code="unsafe_address")
    for file in filter(None, (cert, key)):
        if not file.is_file():
            raise CliError(f"there is no file {file}", code="unsafe_address")
    proxies = os.environ.get("SAMOVAR_COORDINATOR_TRUSTED_PROXIES", "")
    said = os.environ.get("SAMOVAR_COORDINATOR_BEHIND_PROXY", "").lower() in ("1", "true", "yes", "on") or proxies
    if cert is None and not behind_proxy and not said and not _is_loopback(host):
        raise CliError(
            f"{flag} {host}: listening beyond this machine without TLS shows keys and payloads to the network. "
            "Give --tls-cert and --tls-key; or, where a proxy with TLS is in front, say so with --behind-proxy; or "
            "stay on 127.0.0.1",
            code="unsafe_address",
        )


def _is_loopback(host: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        # what is wrong with it is said by who listens there
        return bool(host) and not host[0].isdigit()
    return bool(host) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def free_port(host: str, port: int) -> int:
    """`port` where it can be listened on, and for 0 one that is free. Raises CliError (`port_taken`)."""
    if port:
        return _bound(host, port)
    # not one of those that connections are given: until the coordinator listens, any program may get one
    for _ in range(_TRIES):
        with contextlib.suppress(CliError):
            return _bound(host, _LEAST_PORT + secrets.randbelow(_first_of_connections() - _LEAST_PORT))
    return _bound(host, 0)


def port_beside(port: int, taken: str) -> int:
    """The next port on 127.0.0.1 that is not among the addresses `taken`, or else a free one."""
    given = {address.strip().rpartition(":")[2] for address in taken.split(",")}
    after = next(number for number in range(port + 1, port + len(given) + 2) if str(number) not in given)
    with contextlib.suppress(CliError):
        if after <= 65535:
            return free_port("127.0.0.1", after)
    return free_port("127.0.0.1", 0)


def _first_of_connections() -> int:
    """The first port that the kernel gives to connections."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = 32768
    return max(first, _LEAST_PORT + 1)


def _bound(host: str, port: int) -> int:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CliError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); give another with --port, or --port 0 "
            "for a free one",
            code="port_taken",
        ) from None
