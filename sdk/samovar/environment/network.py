"""The variables by which user code finds its way out, where that leads by a proxy; the same wherever it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from samovar import wire

#: What is reached without the proxy: the container itself.
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Network:
    """What a container was told of its network: a proxy, hosts by their names and ports, or neither."""

    def __init__(self, told: str) -> None:
        given: dict[str, Any] = json.loads(told) if told else {}
        self.proxy: str | None = given.get("proxy")
        #: `"name:port"` that any client reaches.
        self.hosts = [f"{name}:{port}" for _, port, name in given.get("relays") or []]
        self._direct: list[str] = given.get("direct") or []

    def variables(self) -> dict[str, str]:
        if self.proxy is None:
            return {}
        found = {"HTTP_PROXY": f"http://{self.proxy}", "HTTPS_PROXY": f"http://{self.proxy}"}
        found["NO_PROXY"] = ",".join((*_LOOPBACK, *self._direct))
        return {**found, **{name.lower(): value for name, value in found.items()}}


#: This container's; that of no container has neither.
current = Network("")


def prepare(given: Mapping[str, str]) -> None:
    """Set the variables, where the project has not `given` them itself."""
    global current
    current = Network(os.environ.pop(wire.EGRESS_VARIABLE, ""))  # of no concern to user code
    os.environ.update({name: value for name, value in current.variables().items() if name not in given})
