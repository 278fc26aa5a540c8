"""What ends a request of a container.

EgressError
├── Refused      it is not carried out; the answer says why
└── Broken       the connection is not worth an answer: the client is gone, or said nothing in time
"""

from __future__ import annotations


class EgressError(Exception):
    """Base of the errors of egress."""


class Refused(EgressError):
    """A request is not carried out. `status` is HTTP's, `code` is stable and short, the text is for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Broken(EgressError):
    """Nobody is there for an answer."""
