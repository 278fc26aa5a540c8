"""Free ports for servers that tests start."""

from __future__ import annotations

from samovar.cli import ports


def free_port() -> int:
    """One on loopback that no connection of the machine is given until somebody listens there."""
    return ports.free_port("127.0.0.1", 0)
