"""The options of `@task`: each checked where it is written, with an error that names option, value and remedy.

One table serves the decorator (values given by the task) and `samovar.toml` (`[defaults]`, values as TOML
has them), so both accept and refuse the same.
"""

from __future__ import annotations

import re
from typing import Any, Callable

from samovar.declare.hosts import read_hosts
from samovar.declare.numbers import duration, is_int, is_number, memory
from samovar.declare.queues import Queue, check_name
from samovar.declare.retry import Retry
from samovar.errors import OptionError
from samovar.values.units import format_memory, parse_memory

#: Process 1, the process that holds the modules, the run, and a few that it starts.
FEWEST_PIDS = 16
SMALLEST_SCRATCH = 1024**2

#: Top directories of a container that no mount may hide.
_SYSTEM = frozenset(
    ["app", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "usr"]
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: A field of the payload: names joined by dots.
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


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
    if isinstance(value, (int, float)) and is_number(value) and 0.01 <= value <= 1024:
        return float(value)
    raise OptionError(f"cpu={value!r}: give a number of CPUs from 0.01 to 1024, such as 0.5 or 2")


def _priority(value: object) -> int:
    if isinstance(value, int) and is_int(value) and abs(value) <= 10**9:
        return value
    raise OptionError(f"priority={value!r}: give a whole number from -1000000000 to 1000000000")


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise OptionError(f"{name}={value!r}: give True or False")


def _network(value: object) -> str | list[str]:
    if isinstance(value, str) and value in ("none", "open", "public"):
        return value
    if isinstance(value, (list, tuple)) and value:
        return read_hosts(value)
    meant = f"; did you mean [{value!r}]?" if isinstance(value, str) and ":" in value else ""
    raise OptionError(
        f'network={value!r}: give "public", "none", "open" or a list such as ["api.example.com:443"]{meant}'
    )


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


def _start(value: object) -> str:
    if isinstance(value, str) and value in ("auto", "fork", "fresh"):
        return value
    raise OptionError(
        f'start={value!r}: give "auto", "fork" (a run is forked from a process that has imported the project) or '
        '"fresh" (each run starts a Python of its own and imports the project anew)'
    )


def _isolation(value: object) -> str:
    if isinstance(value, str) and value in ("process", "container", "inline"):
        return value
    raise OptionError(
        f'isolation={value!r}: give "process" (each run is a process of its own, in a container that is kept), '
        '"container" (each run has a container of its own) or "inline" (runs of trusted code share a process)'
    )


def _pids(value: object) -> int:
    if isinstance(value, int) and is_int(value) and FEWEST_PIDS <= value <= 32_768:
        return value
    raise OptionError(
        f"pids={value!r}: give how many processes and threads the container may have, from {FEWEST_PIDS} to 32768"
    )


def _scratch(value: object) -> int:
    try:
        count = parse_memory(value)
    except ValueError as error:
        raise OptionError(f"scratch={value!r}: {error}") from None
    if count < SMALLEST_SCRATCH:
        raise OptionError(f'scratch={value!r} is {format_memory(count)}: give "1m" or more')
    return count


def _machine(value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise OptionError(f'machine={value!r}: give the name of a size, such as "small"')


def _ttl(value: object) -> float | None:
    return None if value is None else duration("ttl", value, 0.001, 365 * 86400)


def _total(value: object) -> float:
    return duration("total_timeout", value, 0.1, 365 * 86400)


def _on_failure(value: object) -> str:
    name = getattr(value, "id", value)  # a task, or its id
    if isinstance(name, str) and name:
        return name
    raise OptionError(f'on_failure={value!r}: give the id of a task of the project, such as "notify-failure"')


#: Every option a task may have besides `id`, and how its value is checked and resolved.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "retry": _retry,
    "memory": lambda value: memory("memory", value),
    "cpu": _cpu,
    "timeout": lambda value: duration("timeout", value, 0.1, 30 * 86400),
    "ttl": _ttl,
    "priority": _priority,
    "warm": lambda value: _boolean("warm", value),
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
    "isolation": _isolation,
    "start": _start,
    "share_imports": lambda value: _boolean("share_imports", value),
    "pids": _pids,
    "scratch": _scratch,
    "machine": _machine,
}

DEFAULTS: dict[str, Any] = {
    "retry": Retry(max_attempts=1).describe(),
    "memory": 512 * 1024**2,
    "cpu": 1.0,
    "timeout": 3600.0,
    "ttl": None,
    "priority": 0,
    "warm": True,
    "network": "public",
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
    "isolation": "process",
    "start": "auto",
    "share_imports": False,
    "pids": None,
    "scratch": None,
    "machine": None,
}


def check(given: dict[str, Any]) -> dict[str, Any]:
    """The options of `given`, resolved (seconds, bytes). Raises OptionError for the first that won't do."""
    resolved = {}
    for name, value in given.items():
        if name not in CHECKS:
            raise OptionError(f"unknown option {name!r}{_nearest(name, ['id', *CHECKS])}")
        resolved[name] = CHECKS[name](value)
    _check_isolation(resolved)
    return resolved


def resolve(own: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """All options of a task: its own, else the project's defaults, else the built-in ones.

    `machine` says what it decides, `{"name", "sets"}`: the operator's name for a size gives way to memory and cpu
    that stand beside it. Raises OptionError where two options don't go together.
    """
    options = {**DEFAULTS, **defaults, **own}
    options["isolation"] = _resolve_isolation(own, defaults)
    options["warm"] = options["isolation"] != "container"
    if options["trust"] == "untrusted" and "network" not in {**defaults, **own}:
        options["network"] = "none"
    if options["machine"] is not None:
        beside = own if "machine" in own else {**defaults, **own}
        sets = [name for name in ("memory", "cpu") if name not in beside]
        options["machine"] = {"name": options["machine"], "sets": sets}
    _check_isolation(options)
    if options["trust"] == "untrusted":
        _check_untrusted(options)
    memory_known = options["machine"] is None or "memory" not in options["machine"]["sets"]
    if memory_known and options["scratch"] is not None and options["scratch"] > options["memory"]:
        raise OptionError(
            f"scratch={format_memory(options['scratch'])} is more than memory={format_memory(options['memory'])}, "
            "out of which it comes: give less, or more memory"
        )
    return options


def _resolve_isolation(own: dict[str, Any], defaults: dict[str, Any]) -> str:
    """`warm` says whether there is a container for each run, in fewer words; the task's own word goes first."""
    for given in (own, defaults):
        _check_isolation(given)
    if "isolation" in own:
        return str(own["isolation"])
    if "warm" in own:
        kept = "inline" if defaults.get("isolation") == "inline" else "process"
        return kept if own["warm"] else "container"
    return str(defaults.get("isolation") or ("process" if defaults.get("warm", True) else "container"))


def _check_isolation(options: dict[str, Any]) -> None:
    """Raises OptionError where other options say something else than `isolation`."""
    isolation, warm = options.get("isolation"), options.get("warm")
    if isolation is not None and warm is not None and warm != (isolation != "container"):
        means = "a container that is kept" if warm else "a container for each run"
        raise OptionError(
            f"isolation={isolation!r} and warm={warm!r} contradict each other: warm={warm!r} means {means}. "
            "Leave out warm: isolation says it all"
        )
    if isolation != "inline":
        return
    if options.get("start") == "fresh":
        raise OptionError(
            "isolation='inline' and start='fresh' contradict each other: inline runs share one process, and "
            "start='fresh' gives each a Python of its own. Leave out one of them"
        )
    if options.get("trust") == "untrusted":
        raise OptionError(
            "isolation='inline' and trust='untrusted' contradict each other: inline runs share a process with "
            "those after them, which only trusted code may. Leave out isolation, or trust"
        )


def _check_untrusted(options: dict[str, Any]) -> None:
    for name in ("secrets", "mounts"):
        if options[name]:
            raise OptionError(
                f'{name}={options[name]!r}: a task of trust="untrusted" gets none; say {name}={_NONE[name]}'
            )
    if options["network"] in ("open", "public"):
        raise OptionError(
            f'network={options["network"]!r}: a task of trust="untrusted" reaches nothing ("none"), or the hosts '
            'of a list such as ["api.example.com:443"]'
        )


_NONE = {"secrets": "[]", "mounts": "{}"}


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1)
    return f": did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
