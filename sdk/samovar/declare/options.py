"""The options of `@task`: each checked where it is written, with an error that names option, value and remedy.

One table serves the decorator (values given by the task) and `samovar.toml` (`[defaults]`, values as TOML
has them), so both accept and refuse the same.
"""

from __future__ import annotations

import re
from typing import Any, Callable

from samovar.declare.queues import Queue, check_name
from samovar.errors import OptionError
from samovar.values.units import format_memory, parse_duration, parse_memory

#: The smallest memory a task may ask for: below it Python itself does not start reliably.
SMALLEST_MEMORY = 32 * 1024**2

#: Top directories of a container that no mount may hide.
_SYSTEM = frozenset(
    ["app", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "usr"]
)

ExceptionTypes = tuple[type[BaseException], ...]

_HOST_PORT = re.compile(r"[A-Za-z0-9_.-]+:\d{1,5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: A field of the payload: names joined by dots.
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


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
        if not _is_int(max_attempts) or not 1 <= max_attempts <= 1000:
            raise OptionError(f"Retry(max_attempts={max_attempts!r}): give a whole number from 1 to 1000")
        if not _is_number(factor) or not 1 <= factor <= 100:
            raise OptionError(f"Retry(factor={factor!r}): give a number from 1 to 100")
        self.max_attempts = max_attempts
        self.factor = float(factor)
        self.min_delay = _duration("Retry(min_delay", min_delay, 0, 30 * 86400)
        self.max_delay = _duration("Retry(max_delay", max_delay, 0, 30 * 86400)
        if self.max_delay < self.min_delay:
            raise OptionError(
                f"Retry(max_delay={max_delay!r}) is shorter than min_delay={min_delay!r}: raise max_delay"
            )
        if not isinstance(jitter, bool):
            raise OptionError(f"Retry(jitter={jitter!r}): give True or False")
        self.jitter = jitter
        self.retry_on = None if retry_on is None else _exceptions("retry_on", retry_on)
        self.give_up_on = _exceptions("give_up_on", give_up_on)
        self.oom_memory = None if oom_memory is None else _memory("Retry(oom_memory", oom_memory)

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


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _exceptions(name: str, value: object) -> ExceptionTypes:
    kinds = value if isinstance(value, tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise OptionError(
                f"Retry({name}=...): {kind!r} is not an exception class; give a tuple such as (TimeoutError,)"
            )
    return kinds


def _duration(name: str, value: object, least: float, most: float) -> float:
    close = ")" if "(" in name else ""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise OptionError(f"{name}={value!r}{close}: {error}") from None
    if not least <= seconds <= most:
        raise OptionError(f"{name}={value!r}{close}: give a duration from {least:g} s to {most:g} s")
    return seconds


def _memory(name: str, value: object) -> int:
    close = ")" if "(" in name else ""
    try:
        count = parse_memory(value)
    except ValueError as error:
        raise OptionError(f"{name}={value!r}{close}: {error}") from None
    if count < SMALLEST_MEMORY:
        raise OptionError(
            f"{name}={value!r}{close} is {format_memory(count)}, less than the least a task may ask for: "
            f'give "{SMALLEST_MEMORY // 1024**2}m" or more'
        )
    return count


def _retry(value: object) -> dict[str, Any]:
    if isinstance(value, dict):  # as samovar.toml has it
        known = [name for name in Retry.__slots__ if name not in ("retry_on", "give_up_on")]
        for name in value:
            if name not in known:
                raise OptionError(f"retry.{name} is unknown{_nearest(str(name), known)}")
        value = Retry(**value)
    if not isinstance(value, Retry):
        raise OptionError(f"retry={value!r}: give Retry(max_attempts=...), from samovar import Retry")
    return value.describe()


def _cpu(value: object) -> float:
    if isinstance(value, (int, float)) and _is_number(value) and 0.01 <= value <= 1024:
        return float(value)
    raise OptionError(f"cpu={value!r}: give a number of CPUs from 0.01 to 1024, such as 0.5 or 2")


def _priority(value: object) -> int:
    if isinstance(value, int) and _is_int(value) and abs(value) <= 10**9:
        return value
    raise OptionError(f"priority={value!r}: give a whole number from -1000000000 to 1000000000")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise OptionError(f"warm={value!r}: give True or False")


def _network(value: object) -> str | list[str]:
    if isinstance(value, str) and value in ("none", "open", "public"):
        return value
    if isinstance(value, (list, tuple)) and value:
        for host in value:
            if not (isinstance(host, str) and _HOST_PORT.fullmatch(host) and 0 < int(host.split(":")[1]) < 65536):
                raise OptionError(f'network: {host!r} is not "host:port", such as "api.example.com:443"')
        return list(value)
    raise OptionError(f'network={value!r}: give "none", "public", "open" or a list such as ["api.example.com:443"]')


def _secrets(value: object) -> list[str]:
    if isinstance(value, (list, tuple)):
        for name in value:
            if not (isinstance(name, str) and _SECRET.fullmatch(name)):
                raise OptionError(f"secrets: {name!r} is no name of an environment variable")
        return list(value)
    raise OptionError(f'secrets={value!r}: give a list of names such as ["STRIPE_KEY"]')


def _trust(value: object) -> str:
    if isinstance(value, str) and value in ("project", "untrusted"):
        return value
    raise OptionError(f'trust={value!r}: give "project" or "untrusted"')


def _mounts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise OptionError(f'mounts={value!r}: give names and places such as {{"datasets": "/data"}}')
    places: dict[str, str] = {}
    for name, place in value.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise OptionError(f"mounts: {name!r} is not a name: letters, digits, '.', '_' and '-'")
        parts = place.split("/")[1:] if isinstance(place, str) and place.startswith("/") else []
        if not parts or any(part in ("", ".", "..") for part in parts) or ":" in str(place):
            raise OptionError(f'mounts[{name!r}]={place!r}: give an absolute place such as "/data"')
        if parts[0] in _SYSTEM or parts[:2] == ["opt", "samovar"]:
            raise OptionError(f'mounts[{name!r}]={place!r} would hide part of the system: take one such as "/data"')
        if place in places.values():
            raise OptionError(f"mounts: two names at {place!r}; give each a place of its own")
        places[name] = place
    return places


def _schedule(value: object) -> dict[str, Any]:
    from samovar.declare.cron import Cron

    if not isinstance(value, Cron):
        raise OptionError(f'schedule={value!r}: give Cron("0 3 * * *", timezone=...), from samovar import Cron')
    return value.describe()


def _on_event(value: object) -> list[dict[str, Any]]:
    from samovar.declare.events import Event

    given = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [event for event in given if isinstance(event, Event)]
    if not 1 <= len(given) <= 50 or len(found) < len(given):
        raise OptionError(
            f'on_event={value!r}: give Event("order.created"), from samovar import Event, or a list of 1 to 50'
        )
    return [event.describe() for event in found]


def _webhook(value: object) -> dict[str, Any]:
    from samovar.declare.webhooks import Webhook

    if not isinstance(value, Webhook):
        raise OptionError(
            f'webhook={value!r:.80}: give Webhook("stripe", secret="STRIPE_WEBHOOK_SECRET"), '
            "from samovar import Webhook"
        )
    return value.describe()


def _queue(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        # the queue of another task: the index puts its declaration here
        return {"name": check_name(value)}
    if isinstance(value, dict):  # as samovar.toml has it
        known = list(Queue.__slots__)
        for name in value:
            if name not in known:
                raise OptionError(f"queue.{name} is unknown{_nearest(str(name), known)}")
        if "name" not in value:
            raise OptionError('queue: the name is missing; give {name = "...", concurrency = ...}')
        value = Queue(**value)
    if not isinstance(value, Queue):
        raise OptionError(
            f"queue={value!r}: give Queue(name, concurrency=...), or the name of one that is declared"
        )
    return value.describe()


def _concurrency_key(value: object) -> str:
    if isinstance(value, str) and _PATH.fullmatch(value) and len(value) <= 512:
        return value
    raise OptionError(
        f"concurrency_key={value!r}: give the name of a payload field, or a dotted path to one, such as "
        '"order_id" or "customer.id"'
    )


def _ttl(value: object) -> float | None:
    return None if value is None else _duration("ttl", value, 0.001, 365 * 86400)


def _total(value: object) -> float:
    return _duration("total_timeout", value, 0.1, 365 * 86400)


def _on_failure(value: object) -> str:
    name = getattr(value, "id", value)  # a task, or its id
    if isinstance(name, str) and name:
        return name
    raise OptionError(f'on_failure={value!r}: give the id of a task of the project, such as "notify-failure"')


#: Every option a task may have besides `id`, and how its value is checked and resolved.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "retry": _retry,
    "memory": lambda value: _memory("memory", value),
    "cpu": _cpu,
    "timeout": lambda value: _duration("timeout", value, 0.1, 30 * 86400),
    "ttl": _ttl,
    "priority": _priority,
    "warm": _boolean,
    "network": _network,
    "secrets": _secrets,
    "trust": _trust,
    "mounts": _mounts,
    "schedule": _schedule,
    "webhook": _webhook,
    "on_event": _on_event,
    "queue": _queue,
    "concurrency_key": _concurrency_key,
    "total_timeout": _total,
    "on_failure": _on_failure,
}

DEFAULTS: dict[str, Any] = {
    "retry": Retry(max_attempts=1).describe(),
    "memory": 512 * 1024**2,
    "cpu": 1.0,
    "timeout": 3600.0,
    "ttl": None,
    "priority": 0,
    "warm": True,
    "network": "none",
    "secrets": [],
    "trust": "project",
    "mounts": {},
    "schedule": None,
    "webhook": None,
    "on_event": [],
    "queue": None,
    "concurrency_key": None,
    "total_timeout": None,
    "on_failure": None,
}


def check(given: dict[str, Any]) -> dict[str, Any]:
    """The options of `given`, resolved (seconds, bytes). Raises OptionError for the first that won't do."""
    resolved = {}
    for name, value in given.items():
        if name not in CHECKS:
            raise OptionError(f"unknown option {name!r}{_nearest(name, ['id', *CHECKS])}")
        resolved[name] = CHECKS[name](value)
    return resolved


def resolve(own: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """All options of a task: its own, else the project's defaults, else the built-in ones."""
    return {**DEFAULTS, **defaults, **own}


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1)
    return f": did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
