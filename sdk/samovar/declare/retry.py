"""`Retry`: when a failed attempt is followed by another."""

from __future__ import annotations

from typing import Any

from samovar.declare.numbers import duration, is_int, is_number, memory
from samovar.errors import OptionError

ExceptionTypes = tuple[type[BaseException], ...]


class Retry:
    """When a failed attempt is followed by another, and after what delay.

    The delay before attempt n+1 is `min_delay * factor ** (n - 1)`, at most `max_delay`, with full jitter
    where `jitter` is on. `retry_on`: only these exceptions are retried; `give_up_on`: these never are.
    `oom_memory`: memory of the next attempt after one that ran out of memory. Raises OptionError.
    """

    __slots__ = (
        "factor",
        "give_up_on",
        "jitter",
        "max_attempts",
        "max_delay",
        "min_delay",
        "oom_memory",
        "retry_on",
    )

    def __init__(
        self,
        max_attempts: int = 3,
        factor: float = 2.0,
        min_delay: float | str = 1.0,
        max_delay: float | str = 60.0,
        jitter: bool = True,
        retry_on: type[BaseException] | ExceptionTypes | None = None,
        give_up_on: type[BaseException] | ExceptionTypes = (),
        oom_memory: int | str | None = None,
    ) -> None:
        if not is_int(max_attempts) or not 1 <= max_attempts <= 1000:
            raise OptionError(f"Retry(max_attempts={max_attempts!r}): give a whole number from 1 to 1000")
        if not is_number(factor) or not 1 <= factor <= 100:
            raise OptionError(f"Retry(factor={factor!r}): give a number from 1 to 100")
        self.max_attempts = max_attempts
        self.factor = float(factor)
        self.min_delay = duration("Retry(min_delay", min_delay, 0, 30 * 86400)
        self.max_delay = duration("Retry(max_delay", max_delay, 0, 30 * 86400)
        if self.max_delay < self.min_delay:
            raise OptionError(
                f"Retry(max_delay={max_delay!r}) is shorter than min_delay={min_delay!r}: raise max_delay"
            )
        if not isinstance(jitter, bool):
            raise OptionError(f"Retry(jitter={jitter!r}): give True or False")
        self.jitter = jitter
        self.retry_on = None if retry_on is None else _exceptions("retry_on", retry_on)
        self.give_up_on = _exceptions("give_up_on", give_up_on)
        self.oom_memory = None if oom_memory is None else memory("Retry(oom_memory", oom_memory)

    def __repr__(self) -> str:
        return f"Retry({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def describe(self) -> dict[str, Any]:
        """What the coordinator applies, as it stands in the index."""
        return {
            "max_attempts": self.max_attempts,
            "factor": self.factor,
            "min_delay": self.min_delay,
            "max_delay": self.max_delay,
            "jitter": self.jitter,
            "oom_memory": self.oom_memory,
        }

    def verdict(self, error: BaseException) -> dict[str, Any]:
        """`{"allowed", "after"}`: what `error` says about trying again; the coordinator counts the attempts."""
        return verdict(error, self)


def verdict(error: BaseException, retry: Retry | None = None) -> dict[str, Any]:
    """What `error` says about trying again under `retry`: `{"allowed": bool, "after": seconds or None}`."""
    from samovar.errors import Abort, RetryAfter, SamovarError

    if isinstance(error, Abort):
        return {"allowed": False, "after": None}
    if isinstance(error, RetryAfter):
        return {"allowed": True, "after": error.delay}
    if retry is not None:
        if isinstance(error, retry.give_up_on):
            return {"allowed": False, "after": None}
        if retry.retry_on is not None:
            return {"allowed": isinstance(error, retry.retry_on), "after": None}
    allowed = error.retryable if isinstance(error, SamovarError) else True
    return {"allowed": allowed, "after": None}


def _exceptions(name: str, value: object) -> ExceptionTypes:
    kinds = value if isinstance(value, tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise OptionError(
                f"Retry({name}=...): {kind!r} is not an exception class; give a tuple such as (TimeoutError,)"
            )
    return kinds
