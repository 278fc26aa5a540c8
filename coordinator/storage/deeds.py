"""What is written beside a change, in its transaction: set by whoever knows who asks, added by the database."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class Deed(Protocol):
    """Something that the changes of one request are noted as."""

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of a transaction, which notes in the same transaction what it did."""

    def committed(self) -> None:
        """The transaction that `around` was for is durable."""


#: The one of the request in progress; None where nothing is noted.
current: ContextVar[Deed | None] = ContextVar("deed", default=None)
