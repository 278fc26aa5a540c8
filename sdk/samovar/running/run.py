"""The run that code is in: who it is, and where its checkpoints are kept.

In a container there is one run in a process, and every thread of it is in it. `task.local()` gives its call
a run of its own, known to that thread (and to asyncio tasks begun in it).
"""

from __future__ import annotations

import contextvars
import threading
from typing import Any, Protocol

from samovar.errors import NotInRun, NotSerializable, OptionError
from samovar.payloads.codec import plain
from samovar.running.suspension import Suspension
from samovar.values.file import File
from samovar.values.units import parse_duration

#: Of one metadata value, encoded: metadata is for a glance, not for results.
MAX_METADATA = 16 * 1024


class Store(Protocol):
    """Where a run's checkpoints are kept, and who hears what it reports."""

    def get(self, key: str) -> tuple[bool, Any]:
        """Whether there is a checkpoint `key`, and its encoded value."""
        ...

    def put(self, key: str, value: Any, took_ms: float | None = None) -> Any:
        """Keep `value` durably unless the run has this key; the encoded value that holds.

        `took_ms`: how long it took to make, until now.
        """
        ...

    def report(self, progress: dict[str, Any] | None, metadata: dict[str, Any] | None) -> None: ...

    def extend(self, seconds: float) -> None: ...

    def known_wait(self, key: str) -> dict[str, Any] | None:
        """A wait that is over, as far as it is known here: `{kind, name, answer or None}`."""
        ...

    def wait(self, kind: str, key: str, name: str | None, spec: dict[str, Any]) -> dict[str, Any]:
        """What became of the wait of a key, which is stored durably if it is new: `{state, ...}`."""
        ...

    def wait_result(self, key: str, index: int) -> dict[str, Any]:
        """How one of the children of a wait has ended: `{run, status, result, error}`."""
        ...

    def keep_file(self, name: str, path: str, media_type: str) -> File:
        """Keep the file at `path` with the run; it, as it is known from now on. Raises FileRefused."""
        ...


class CurrentRun:
    """The run this code is in.

    `id`; `attempt` (1 for the first); `task`; `project`; `version` of the deployment; `tags`; `trace_id`
    (32 hex digits, one for a run and all it causes).
    """

    def __init__(
        self,
        store: Store,
        *,
        id: str,
        attempt: int,
        task: str,
        project: str,
        version: str,
        tags: tuple[str, ...] = (),
        trace_id: str = "",
        replayed: frozenset[str] = frozenset(),
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.task = task
        self.project = project
        self.version = version
        self.tags = tags
        self.trace_id = trace_id
        self.store = store
        self.suspension = Suspension()
        self._ahead = set(replayed)
        self._lock = threading.Lock()
        self._calls: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.task}, attempt {self.attempt}>"

    @property
    def is_replay(self) -> bool:
        """True while checkpoints that an earlier attempt stored are still ahead of this one.

        So it is False in a first attempt, and turns False as soon as the code has passed the last stored
        checkpoint or comes to one that is not stored. Use it to say less while catching up.
        """
        return bool(self._ahead)

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Show how far the run is: `fraction` from 0 to 1, and a line for people. Does not wait."""
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
            raise OptionError(f"progress({fraction!r}): give a number from 0 to 1, such as done / total")
        if message is not None and not isinstance(message, str):
            raise OptionError(f"progress(message={message!r}): give text")
        self.store.report({"fraction": float(fraction), "message": (message or "")[:1000]}, None)

    def set_metadata(self, key: str, value: Any) -> None:
        """Keep a small JSON value with the run, where people and programs see it. Does not wait."""
        if not isinstance(key, str) or not 1 <= len(key) <= 128:
            raise OptionError(f"set_metadata({key!r}): give a key of 1 to 128 characters")
        encoded = plain(value, f"metadata {key!r}")
        if len(repr(encoded)) > MAX_METADATA:
            raise NotSerializable(f"metadata {key!r}: larger than {MAX_METADATA} bytes; return it, or keep a link")
        self.store.report(None, {key: encoded})

    def extend_timeout(self, duration: float | str) -> None:
        """Give this attempt `duration` more time than its timeout, such as "30m". Raises CheckpointError."""
        try:
            seconds = parse_duration(duration)
        except ValueError as error:
            raise OptionError(f"extend_timeout: {error}") from None
        if seconds <= 0:
            raise OptionError(f"extend_timeout({duration!r}): give more than 0 seconds")
        self.store.extend(seconds)

    def lookup(self, key: str) -> tuple[bool, Any]:
        """Whether a checkpoint is stored, and its encoded value; keeps `is_replay`."""
        found, value = self.store.get(key)
        if found:
            self.pass_key(key)
        else:
            self.catch_up()
        return found, value

    def pass_key(self, key: str) -> None:
        """Take note that the code has passed a stored checkpoint or wait."""
        with self._lock:
            self._ahead.discard(key)

    def catch_up(self) -> None:
        """Take note that the code has come to something that was not there before."""
        with self._lock:
            self._ahead.clear()

    def count_call(self, name: str) -> int:
        """1 for the first call of this name in the run, 2 for the second, ..."""
        with self._lock:
            self._calls[name] = self._calls.get(name, 0) + 1
            return self._calls[name]


_local: contextvars.ContextVar[CurrentRun | None] = contextvars.ContextVar("samovar_run", default=None)
_of_process: CurrentRun | None = None


def current_run() -> CurrentRun:
    """The run this code is in. Raises NotInRun outside of one."""
    run = find_run()
    if run is None:
        raise NotInRun("there is no run here: current_run() works inside a task, run by Samovar or by task.local()")
    return run


def find_run() -> CurrentRun | None:
    """The run this code is in, or None."""
    return _local.get() or _of_process


def enter_process_run(run: CurrentRun) -> None:
    """Make `run` the run of this process. For the harness."""
    global _of_process
    _of_process = run


def leave_process_run() -> None:
    """This process is in no run any more. For the harness."""
    global _of_process
    _of_process = None


def enter_local_run(run: CurrentRun) -> contextvars.Token[CurrentRun | None]:
    """Make `run` the current one in this context, until `leave_local_run`."""
    return _local.set(run)


def leave_local_run(token: contextvars.Token[CurrentRun | None]) -> None:
    _local.reset(token)
