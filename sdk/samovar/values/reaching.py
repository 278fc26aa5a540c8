"""What it means in a container that a connection could not be made, and which option changes that."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from typing import Any, Optional

#: Errors that led to one another, at most, and steps of a traceback that are looked at.
_DEEPEST, _STEPS = 8, 200
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ECONNREFUSED)
#: What libraries say that do not raise Python's own errors: libpq, c-ares, curl.
_TEXTS = (
    "name resolution",
    "name or service not known",
    "could not translate host name",
    "could not resolve host",
    "network is unreachable",
    "domain name not found",
)
_QUOTED = re.compile(r"host(?: name)?:? [\"']?([A-Za-z0-9_.-]+)[\"']?")
#: Hosts of the task's list that are named in a hint.
_NAMED = 5

Place = tuple[Optional[str], Optional[int]]


def hint(error: BaseException, importing: bool) -> str | None:
    """What `error` means where it, or what led to it, is about a way out. `importing`: no run has begun yet."""
    from samovar.environment.network import current

    chain = list(_chain(error))
    if current.proxy is not None and any(_proxy_refused(one) for one in chain):
        return "the proxy of this container has refused it: the run's log says why, and what to write"
    if not any(_is_about(one) for one in chain):
        if current.hosts and any(isinstance(one, ConnectionResetError) for one in chain):
            return "where the sidecar has refused the connection, the run's log says why"
        return None
    host, port = next((found for one in chain if (found := _place(one))[0]), (None, None))
    if host is not None and _is_own(host):
        if importing and f"{host}:{port}" == current.proxy:
            return _said(None, None, importing)
        host, port = None, None
    if host is None and all(_refused(one) for one in chain if _is_about(one)):
        return None  # by whom is not known: it may be a server in the container itself
    return _said(host, port, importing)


def _said(host: str | None, port: int | None, importing: bool) -> str | None:
    from samovar.environment.network import current

    item = f'"{host or "host"}:{port or 443}"'
    what = f"{host}:{port}" if host and port else host or "what it connects to"
    if importing:
        return "nothing is reached while modules are imported: connect inside of the task"
    if current.hosts:
        named = ", ".join(current.hosts[:_NAMED]) + (" and more" if len(current.hosts) > _NAMED else "")
        return f"{what} is none of the hosts that this task reaches, {named}; add it: @task(network=[..., {item}])"
    if current.proxy is not None:
        return (
            f"{what} was not connected to by the proxy, which alone leads out of this container: HTTP clients take "
            "it from the environment (aiohttp with ClientSession(trust_env=True)), and any client reaches the "
            f"hosts of a list, @task(network=[{item}])"
        )
    if _has_interfaces():
        return None
    return f"this task has no network: {what} is reached with @task(network=[{item}])"


def _chain(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    for _ in range(_DEEPEST):
        if following is None:
            return
        yield following
        following = following.__cause__ or following.__context__


def _is_about(error: BaseException) -> bool:
    if isinstance(error, socket.gaierror):
        return True
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return True
    try:
        text = str(error)[:2000].lower()
    except Exception:
        return False
    return any(part in text for part in _TEXTS)


def _proxy_refused(error: BaseException) -> bool:
    """Of a CONNECT clients tell the status alone: requests and urllib, httpx, aiohttp, websockets."""
    try:
        text = str(error)[:2000]
    except Exception:
        return False
    named = type(error).__name__ in ("ProxyError", "ClientHttpProxyError", "InvalidProxyStatus")
    return " 403" in f" {text}" and (named or "Tunnel connection failed" in text)


def _refused(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ECONNREFUSED


def _place(error: BaseException) -> Place:
    """The host and the port that `error` is about, where it or its traceback tells them."""
    found = _pair(getattr(error, "host", None), getattr(error, "port", None))
    step, steps = error.__traceback__, 0
    while step is not None and steps < _STEPS:
        code, names = step.tb_frame.f_code, step.tb_frame.f_locals
        if code.co_name == "getaddrinfo":
            found = _pair(names.get("host"), names.get("port"))
        elif "connect" in code.co_name:
            if isinstance(names.get("port"), int):
                found = _pair(names.get("host"), names["port"])
            for name in ("address", "addr"):
                given = names.get(name)
                if isinstance(given, tuple) and len(given) >= 2:
                    found = _pair(*given[:2])
        step, steps = step.tb_next, steps + 1
    if found[0] is None and not isinstance(error, OSError):
        match = _QUOTED.search(str(error)[:2000])
        found = (match[1], None) if match else found
    return found


def _pair(host: Any, port: Any) -> Place:
    host = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not isinstance(host, str) or not host:
        return None, None
    port = int(port) if isinstance(port, (str, bytes)) and port.isdigit() else port
    return host, port if isinstance(port, int) else None


def _is_own(host: str) -> bool:
    return host in ("localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")


def _has_interfaces() -> bool:
    """Whether there is more than loopback: on a host, or with network="open", nothing of this holds."""
    try:
        return any(name != "lo" for _, name in socket.if_nameindex())
    except OSError:
        return False
