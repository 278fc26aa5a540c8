"""What can go wrong between a container and the coordinator.

SidecarError
├── Stale      the coordinator refused the attempt's token: it is not this container's run any more
└── Refused    the coordinator refused this one request
"""

from __future__ import annotations


class SidecarError(Exception):
    """Base of the sidecar's errors."""


class Stale(SidecarError):
    """The attempt's lease is gone; nothing it writes counts."""


class Refused(SidecarError):
    """The coordinator refused a request, with a stable code and a sentence for people.

    `status` is the HTTP status, where it answered; `fields` are those that are wrong.
    """

    def __init__(
        self, code: str, message: str, status: int = 0, fields: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.fields = fields or []
