"""`@task`: a function that Samovar can run, and the registry that the index is read from."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, overload

from samovar.declare.options import check
from samovar.declare.registry import registry
from samovar.declare.retry import ExceptionTypes, Retry
from samovar.errors import OptionError
from samovar.values import functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samovar.calling.items import Debounce, Items
    from samovar.declare.cron import Cron
    from samovar.declare.events import Event
    from samovar.declare.queues import Queue
    from samovar.declare.webhooks import Webhook
    from samovar.payloads.signature import Signature
    from samovar.running.local import MemoryStore

R = TypeVar("R")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Task(Generic[R]):
    """A function with an id and options; made by `@task`.

    Calling it calls the function, plainly. `local()` runs it in this process like a run; `trigger()` has
    Samovar run it.
    """

    def __init__(self, function: Callable[..., R], id: str | None, options: dict[str, Any]) -> None:
        if not callable(function) or isinstance(function, (type, Task)):
            raise OptionError(f"@task is for functions, not for {function!r}")
        code = getattr(functions.unwrap(function), "__code__", None)
        #: file:line of the definition, for messages.
        self.place = f"{code.co_filename}:{code.co_firstlineno}" if code else "unknown place"
        self.module: str = function.__module__
        self.name: str = function.__qualname__
        self.id = function.__name__.strip("_").replace("_", "-") if id is None else id
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise OptionError(
                f"task {self.name} ({self.place}): id={self.id!r}: give 1 to 128 letters, digits, '-', '_' or '.', "
                "beginning with a letter or digit"
            )
        self.function = function
        self.is_async = functions.makes_coroutine(function)
        if functions.is_generator(function):
            raise OptionError(f"task {self.id!r} ({self.place}) is a generator; return a list instead of yielding")
        #: The retry policy with its exception classes, which the index can't carry.
        self.retry: Retry | None = options.get("retry")
        try:
            #: The options the task gives itself, resolved to seconds and bytes.
            self.options = check(options)
        except OptionError as error:
            raise OptionError(f"task {self.id!r} ({self.place}): {error}") from None
        functools.update_wrapper(self, function)
        self._signature: Signature | None = None
        #: What `with_options` has added.
        self.trigger_options: dict[str, Any] = {}
        registry.setdefault(self.id, []).append(self)

    def __repr__(self) -> str:
        return f"<task {self.id} ({self.module}.{self.name})>"

    def __reduce__(self) -> tuple[Any, ...]:
        """By module and name, as functions are pickled: `pool.map(task, items)` calls it in other processes."""
        if _importable(self) is None:
            import pickle

            raise pickle.PicklingError(
                f"task {self.id!r} ({self.place}) is not to be found as {self.name} in {self.module}: define it at "
                "the top level of a module, under the name of its function"
            )
        return _unpickle, (self.module, self.name, self.trigger_options)

    def __copy__(self) -> Task[R]:
        return self  # nothing of it changes

    def __deepcopy__(self, memo: Any) -> Task[R]:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self.function(*args, **kwargs)

    @property
    def signature(self) -> Signature:
        """The parameters, resolved at first use: annotations may name what a module defines further down."""
        if self._signature is None:
            from samovar.payloads.signature import Signature

            self._signature = Signature(self.id, self.function)
        return self._signature

    def local(self, **payload: Any) -> R:
        """Run in this process as a run would: payload through JSON, checkpoints in memory; for unit tests.

        Returns what the function returns, after checking that it could be stored. An `async def` task is run
        to its end; inside a running event loop its coroutine is returned instead, to be awaited.
        Raises InvalidPayload, NotSerializable, and what the function raises.
        """
        from samovar.running.local import run_local

        result: R = run_local(self, payload)
        return result

    def local_with(self, store: MemoryStore, **payload: Any) -> R:
        """Like `local`, with checkpoints kept in `store`: a second call with it resumes where the first failed."""
        from samovar.running.local import run_local

        result: R = run_local(self, payload, store)
        return result

    def with_options(
        self,
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: float | str | None = None,
        delay: float | str | None = None,
        ttl: float | str | None = None,
        priority: int | None = None,
        concurrency_key: str | None = None,
        tags: Sequence[str] | None = None,
        memory: int | str | None = None,
        version: str | None = None,
        debounce: Debounce | None = None,
        key: str | None = None,
        detached: bool | None = None,
    ) -> Task[R]:
        """This task, to be triggered with these options.

        `debounce=("key", "5s")`: the run starts when no trigger with this key has come for 5 s, with the payload
        of the last one. `idempotency_ttl`: how long the idempotency key is the run's. In a run: `key` names the
        trigger among the run's checkpoints, so that it is made once; `detached=True`: a cancel of this run leaves
        the other alone.
        """
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        changed: Task[R] = Task.__new__(Task)
        changed.__dict__.update(self.__dict__)
        changed.trigger_options = {**self.trigger_options, **given}
        return changed

    def trigger(self, **payload: Any) -> Any:
        """Have Samovar run the task with this payload; its handle (RunHandle), with `.id` and `.result()`.

        In a run it is made once, however often the run comes here, and the handle (ChildRun) waits without a
        container; in an `async def` task both are awaited. Raises InvalidPayload in a run, else ApiError and
        CoordinatorUnreachable.
        """
        from samovar.calling.client import default_client
        from samovar.payloads.codec import plain
        from samovar.running.run import find_run

        if find_run() is not None:
            from samovar.running import children

            return children.trigger(self, payload)
        options = self._outside("trigger")
        encoded = {name: plain(value, name) for name, value in payload.items()}
        return default_client().trigger(self.id, encoded, **options)

    def trigger_and_wait(self, **payload: Any) -> Any:
        """In a run: trigger the task once and give its result, waited for without a container.

        Awaited in an `async def` task. Raises RunFailed where the child ended otherwise, InvalidPayload.
        """
        from samovar.running import children

        return children.trigger_and_wait(self, payload)

    def batch_trigger(self, items: Items) -> Any:
        """Have Samovar run the task once for each item, all or none; their handles, in order, as `trigger` gives.

        An item is a payload (a dict), or `samovar.Item(payload, **options)`. The options of `with_options` are
        those of every item, but an idempotency key, which is the batch's. Raises as `trigger`, with the bad item
        named.
        """
        from samovar.calling.client import default_client
        from samovar.running.run import find_run

        if find_run() is not None:
            from samovar.running import children

            return children.batch_trigger(self, items)
        options = self._outside("batch_trigger")
        # the key and its time are the batch's, not each item's
        return default_client().batch_trigger(self.id, items, **options)

    def batch_trigger_and_wait(self, items: Items) -> Any:
        """In a run: as `batch_trigger`, then wait without a container until all have ended.

        Gives a list in the order of the items, each with `.ok`, `.result()` (raises RunFailed) and `.error`.
        Awaited in an `async def` task.
        """
        from samovar.running import children

        return children.batch_trigger_and_wait(self, items)

    def _outside(self, word: str) -> dict[str, Any]:
        """The options of a trigger outside of a run."""
        for name in ("key", "detached"):
            if name in self.trigger_options:
                raise OptionError(f"with_options({name}=...).{word}(): only in a run, whose children it is about")
        return dict(self.trigger_options)


def _importable(task: Task[Any]) -> Task[Any] | None:
    """The task that its module has under its name, where that is this one (options of a trigger apart)."""
    try:
        found = _lookup(task.module, task.name)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, Task) and found.function is task.function else None


def _lookup(module: str, name: str) -> Any:
    from importlib import import_module

    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _unpickle(module: str, name: str, options: dict[str, Any]) -> Task[Any]:
    found: Task[Any] = _lookup(module, name)
    return found.with_options(**options) if options else found


@overload
def task(function: Callable[..., R], /) -> Task[R]: ...


@overload
def task(
    *,
    id: str | None = None,
    retry: Retry | None = None,
    memory: int | str | None = None,
    cpu: float | None = None,
    timeout: float | str | None = None,
    ttl: float | str | None = None,
    priority: int | None = None,
    warm: bool | None = None,
    network: str | Sequence[str] | None = None,
    secrets: Sequence[str] | None = None,
    trust: str | None = None,
    mounts: dict[str, str] | None = None,
    schedule: Cron | None = None,
    webhook: Webhook | None = None,
    on_event: Event | Sequence[Event] | None = None,
    queue: Queue | str | None = None,
    concurrency_key: str | None = None,
    total_timeout: float | str | None = None,
    on_failure: str | Task[Any] | None = None,
    isolation: str | None = None,
    start: str | None = None,
    share_imports: bool | None = None,
    pids: int | None = None,
    scratch: int | str | None = None,
    machine: str | None = None,
) -> Callable[[Callable[..., R]], Task[R]]: ...


def task(function: Any = None, /, *, id: str | None = None, **options: Any) -> Any:
    """Make a function (`def` or `async def`) a task.

    Used plainly or with options; what is not given comes from `[defaults]` in samovar.toml, else built in:

        id        default: the function's name, with dashes
        retry     Retry(...); default: one attempt
        memory    "512m" or bytes, at least 32 MiB; default 512 MiB. Swap is never added to it
        cpu       number of CPUs; default 1
        timeout   of one attempt; default "1h"
        total_timeout  of the whole run from its trigger (or the end of its delay), with all its attempts,
                  waits and time in line; default: none
        ttl       how long a run may wait to begin before it expires; default: for ever
        priority  seconds of head start before other runs; default 0
        machine   a size by name, such as "small": its memory and cpu, where these are not given
        isolation "process" (default): each run is a process of its own, in a container that is kept; "container":
                  in a container of its own, as warm=False says; "inline", for trusted code: one process runs one
                  after the other, and its globals stay
        start     "auto" (default): a run is forked from a process that has imported the project, where all that the
                  modules have made survives that, else it starts a Python of its own; or "fork", or "fresh"
        share_imports  whether forked runs may share what imports have made (memory, pipes, threads, open files);
                  without it, a container where there is such has one run; default False
        pids      how many processes and threads its container may have; default 128
        scratch   "512m" or bytes that /tmp, the home folder and /dev/shm may each hold, out of the memory; default:
                  half of it
        warm      whether a container is kept for the next run; default True, and False with isolation="container"
        network   what it reaches: "public" (default) any public address over HTTP and HTTPS, by a proxy that stands
                  in its environment; ["db.internal:5432", "*.example.com:443"] these hosts, by any client; "none"
                  nothing, as an untrusted task does without a word; "open" Docker's bridge, where the operator
                  allows it
        secrets   names of the project's secrets to put into the environment
        trust     "project" (default) or "untrusted"
        mounts    {name in the operator's policy: place in the container}
        schedule  Cron("0 3 * * *", timezone="Europe/Berlin"): when it runs by itself
        webhook   Webhook("stripe", secret="STRIPE_WEBHOOK_SECRET"): an address that makes runs of it
        on_event  Event("order.created", where={...}), or several: events that make a run of it
        queue     Queue(...) or the name of one; default: one of the task's own, without a limit
        concurrency_key  the payload field (or dotted path) by which the queue counts apart
        on_failure  the task (or its id) that is given the run (`run`, as over HTTP) when it has failed for good

    Raises OptionError naming the option, its value and what would do.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if function is not None:
        return Task(function, id, given)
    return lambda decorated: Task(decorated, id, given)


__all__ = ["ExceptionTypes", "Task", "registry", "task"]
