"""The server parts, as the command line knows them: modules to start, and an engine to look for."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import httpx

from samovar.cli.errors import CliError

PARTS = ("coordinator", "sidecar", "runner", "images")
_DEFAULT_HOST = "unix:///var/run/docker.sock"


def require_server() -> None:
    """Raise CliError where the server distribution is not installed beside this command."""
    missing = [part for part in PARTS if importlib.util.find_spec(part) is None]
    if missing or sys.version_info < (3, 11):
        raise CliError(
            "the server parts are not installed for this Python; install them with "
            "pip install 'samovar-server[all]' (Python 3.11 or later)",
            code="no_server",
        )


def docker_host() -> str:
    """The engine's address, as every Docker client finds it."""
    return os.environ.get("DOCKER_HOST") or _DEFAULT_HOST


def docker_get(path: str, *, timeout: float = 5.0) -> Any:
    """The JSON document at `path` of the Docker engine. Raises CliError saying why there is none."""
    host = docker_host()
    scheme, _, rest = host.partition("://")
    # neither way has TLS, and reading a system's certificates takes a while
    if scheme == "unix":
        transport, base = httpx.HTTPTransport(uds=rest, verify=False), "http://docker"
    elif scheme in {"tcp", "http"} and not os.environ.get("DOCKER_TLS_VERIFY"):
        transport, base = httpx.HTTPTransport(verify=False), f"http://{rest}"
    else:
        raise CliError(f"Docker at {host} is reached in a way this check cannot go", code="docker_unchecked")
    try:
        with httpx.Client(transport=transport, base_url=base, timeout=timeout) as client:
            answer = client.get(path)
            answer.raise_for_status()
            return answer.json()
    except httpx.HTTPStatusError as error:
        raise CliError(
            f"Docker at {host} answered {error.response.status_code} to {path}", code="docker_refused"
        ) from None
    except (httpx.HTTPError, OSError, ValueError) as error:
        hint = "is it running?"
        if "ermission denied" in str(error):
            hint = "this user may not use it: add the user to the group docker, or run as root"
        raise CliError(f"Docker cannot be reached at {host} ({error}); {hint}", code="docker_unavailable") from None
