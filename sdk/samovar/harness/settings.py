"""Where the harness finds things: fixed in an image, set by environment variables in tests."""

from __future__ import annotations

import os
from collections.abc import Mapping

from samovar import wire

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any


class Settings:
    """From the environment:

    SAMOVAR_SOCKET            the sidecar's socket
    SAMOVAR_CODE              the folder of the project's code
    SAMOVAR_MANIFEST          the image's manifest.json
    SAMOVAR_SCRATCH           folders wiped after each run, joined by ":"
    SAMOVAR_DISCONNECT_LIMIT  seconds without a sidecar after which all ends
    SAMOVAR_EGRESS            where to listen for what leads out; see egress.py
    """

    def __init__(self, environment: Mapping[str, str], is_first: bool) -> None:
        socket = os.path.join(wire.SOCKET_DIRECTORY, wire.SOCKET_NAME)
        self.socket = environment.get("SAMOVAR_SOCKET", socket)
        #: The sidecar's socket for what leads out.
        self.egress_socket = os.path.join(os.path.dirname(self.socket), wire.EGRESS_NAME)
        self.egress = environment.get(wire.EGRESS_VARIABLE, "")
        self.code = environment.get("SAMOVAR_CODE", wire.IMAGE_CODE)
        self.manifest = environment.get("SAMOVAR_MANIFEST", wire.IMAGE_MANIFEST)
        self.disconnect_limit = float(environment.get("SAMOVAR_DISCONNECT_LIMIT", wire.DISCONNECT_LIMIT))
        #: Whether this is process 1 of a container, and every other process in sight is the project's.
        self.is_first = is_first
        given = environment.get("SAMOVAR_SCRATCH")
        if given is not None:
            self.scratch = [folder for folder in given.split(":") if folder]
        elif is_first:
            self.scratch = ["/tmp", "/dev/shm"]
            home = environment.get("HOME", "")
            # only a home of its own is scratch: an image without one has "/"
            if os.path.isabs(home) and home not in ("/", wire.IMAGE_CODE) and os.path.ismount(home):
                self.scratch.append(home)
        else:
            self.scratch = []

    def describe(self) -> dict[str, Any]:
        """For a process that is started by this one."""
        return dict(vars(self))

    @classmethod
    def described(cls, given: Mapping[str, Any]) -> Settings:
        """The settings that `describe` has told."""
        made = cls.__new__(cls)
        names = ("socket", "egress_socket", "egress", "code", "manifest", "disconnect_limit", "is_first", "scratch")
        vars(made).update({name: given[name] for name in names})
        return made
