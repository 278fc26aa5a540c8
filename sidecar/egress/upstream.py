"""The proxy of the host's own network, where the operator has one: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sidecar.egress.addresses import Address
from sidecar.egress.errors import Refused
from sidecar.egress.names import Target

_PATIENCE = 20.0
_LONGEST_HEAD = 16 * 1024
#: Names that mean nothing outside this host or its network: no proxy is asked for them.
_INSIDE = ("local", "localhost", "internal", "intranet", "lan", "home", "corp", "home.arpa", "localdomain")


@dataclass(frozen=True)
class Proxy:
    """`authorization`: what it is given with each request, where it wants to know who asks."""

    host: str
    port: int
    authorization: bytes | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"  # never the password


class Proxies:
    """Which proxy a connection goes through."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        def of(name: str) -> str:
            # as curl, and everybody since: the lower one first
            return (environment.get(name.lower()) or environment.get(name) or "").strip()

        everything = of("ALL_PROXY")
        self._secure = _proxy("HTTPS_PROXY", of("HTTPS_PROXY") or everything)
        self._plain = _proxy("HTTP_PROXY", of("HTTP_PROXY") or everything)
        self._direct = [entry.strip().lower() for entry in of("NO_PROXY").split(",") if entry.strip()]

    def of(self, wanted: Target, found: list[Address], *, plain: bool) -> Proxy | None:
        """The one for `wanted`, which was resolved to `found` (nothing where this host knows no such name).

        Raises Refused (`upstream_proxy`) where a variable names none that can be used: it is not gone past.
        """
        proxy = self._plain if plain else self._secure
        if proxy is None or any(self._excepted(entry, wanted, found) for entry in self._direct):
            return None
        if isinstance(proxy, str):
            raise Refused(502, "upstream_proxy", f"the host's proxy can't be used: {proxy}")
        return proxy

    @staticmethod
    def _excepted(entry: str, wanted: Target, found: list[Address]) -> bool:
        if entry == "*":
            return True
        if "/" in entry:
            try:
                block = ipaddress.ip_network(entry, strict=False)
            except ValueError:
                return False
            return any(address in block for address in found)
        name, sign, port = entry.rpartition(":")
        if sign and port.isdigit() and ":" not in name:
            if int(port) != wanted.port:
                return False
            entry = name
        entry = entry.removeprefix("*").strip("[]")
        if entry.startswith("."):
            return wanted.host.endswith(entry) or wanted.host == entry[1:]
        return wanted.host == entry or (wanted.address is None and wanted.host.endswith("." + entry))


def outside(wanted: Target) -> bool:
    """Whether a name that this host can't resolve may be left to the proxy to resolve."""
    return "." in wanted.host and not any(wanted.host.endswith("." + name) for name in _INSIDE)


def _proxy(name: str, url: str) -> Proxy | str | None:
    """The proxy in `url`, or what is wrong with it."""
    if not url:
        return None
    # not the value: there may be a password in it
    wanted = f"{name} of the sidecar: a URL such as http://proxy:3128 is wanted"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError:
        return wanted
    if parts.scheme != "http" or not parts.hostname:
        return f"{wanted}, scheme {parts.scheme[:20]!r} is not known"
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(parts.hostname, port, authorization)


async def tunnel(sock: socket.socket, proxy: Proxy, wanted: Target) -> bytes:
    """Has `proxy`, at the other end of `sock`, connect to `wanted`; what came after its answer already.

    Raises Refused (`upstream_proxy`).
    """
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {wanted} HTTP/1.1".encode(), f"Host: {wanted}".encode()]
    if proxy.authorization is not None:
        lines.append(b"Proxy-Authorization: " + proxy.authorization)
    try:
        async with asyncio.timeout(_PATIENCE):
            await loop.sock_sendall(sock, b"\r\n".join([*lines, b"", b""]))
            data = b""
            while b"\r\n\r\n" not in data:
                more = await loop.sock_recv(sock, 4096)
                if not more or len(data) > _LONGEST_HEAD:
                    raise Refused(502, "upstream_proxy", f"the host's proxy {proxy.host} gave no answer")
                data += more
    except TimeoutError:
        raise Refused(504, "upstream_proxy", f"the host's proxy {proxy.host} did not answer in time") from None
    except OSError as error:
        raise Refused(502, "upstream_proxy", f"the host's proxy {proxy.host}: {error.strerror}") from None
    head, _, rest = data.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    version, _, said = status.partition(" ")
    if not version.startswith("HTTP/1.") or not said.startswith("2"):
        shown = "".join(c if c.isprintable() else "?" for c in said[:100])
        raise Refused(502, "upstream_proxy", f"the host's proxy {proxy.host} refused {wanted}: {shown}")
    return rest
