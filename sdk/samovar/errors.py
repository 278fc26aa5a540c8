"""What the SDK raises.

SamovarError
├── Abort                    raised by a task: fail now, no retry
├── RetryAfter               raised by a task: fail this attempt, try again after a given delay
├── OptionError              a task option, key or setting is not acceptable (also a ValueError)
├── InvalidPayload           the payload does not fit the task's signature; `.fields` names each place
├── NotSerializable          a value can't be stored (also a TypeError)
├── SecretMissing            a secret is not set, or the task does not name it (also a LookupError)
├── FileMissing              a file can't be had any more, or not here (also a LookupError)
├── FileRefused              a file could not be kept
├── NotInRun                 something that needs a run was called outside of one
├── CheckpointError          a checkpoint or a wait could not be stored or read
├── NonDeterministic         a run came to another checkpoint or wait than the one it has stored there
├── RunFailed                a run that was waited for ended otherwise than completed
├── WaitTimeout              something waited for did not happen in time (also a TimeoutError)
├── CoordinatorUnreachable   no answer from the coordinator (also a ConnectionError)
└── ApiError                 the coordinator refused; `.status .code .fields`
    └── NotFound             there is no such run, task, ...

BaseException
├── Canceled                 raised inside a task when its run is canceled or has timed out
└── Suspend                  raised inside a task that has nothing to do but wait: it gives its container back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Field = dict[str, str]


class SamovarError(Exception):
    """Something Samovar refused or could not do."""

    #: Whether running the task once more could help where no `retry_on` says otherwise.
    retryable = True

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().split("\n")[0])


class Abort(SamovarError):
    """The task gave up; the run fails without another attempt."""

    retryable = False


class RetryAfter(SamovarError):
    """The task asked to be tried again later.

    `delay` is seconds or text such as "30s". The attempt counts against `max_attempts`.
    """

    def __init__(self, delay: float | str, message: str = "") -> None:
        from samovar.values.units import parse_duration

        try:
            self.delay = parse_duration(delay)
        except ValueError as error:
            raise OptionError(f"RetryAfter: {error}") from None
        super().__init__(message or f"the task asked to be tried again after {delay!r}")


class OptionError(SamovarError, ValueError):
    """An option is not acceptable."""

    retryable = False


class InvalidPayload(SamovarError):
    """The payload does not fit the task's signature.

    `fields` is a list of `{"path", "message"}`, one for each bad place.
    """

    retryable = False

    def __init__(self, task: str, fields: Sequence[Field]) -> None:
        self.task = task
        self.fields = list(fields)
        listing = "; ".join(f"{field['path']}: {field['message']}" for field in self.fields)
        super().__init__(f"the payload does not fit task {task!r}: {listing}")


class NotSerializable(SamovarError, TypeError):
    """A value can't be stored."""

    retryable = False


class SecretMissing(SamovarError, LookupError):
    """A secret is not set, or the task does not name it."""

    retryable = False


class FileMissing(SamovarError, LookupError):
    """A file can't be had any more, or not here."""


class FileRefused(SamovarError):
    """A file could not be kept."""

    retryable = False


class NotInRun(SamovarError):
    """There is no run here: this works inside a task's run and inside `task.local()`."""

    retryable = False


class CheckpointError(SamovarError):
    """A checkpoint or a wait could not be stored or read."""


class NonDeterministic(SamovarError):
    """A run came to another checkpoint or wait than the one it has stored there."""

    retryable = False


class RunFailed(SamovarError):
    """A run ended otherwise than completed.

    `run` is its id, `status` how it ended; `type`, `message`, `traceback` and `reason` are the run's error.
    """

    def __init__(self, run: str, status: str, error: dict[str, Any] | None = None) -> None:
        error = error or {}
        self.run = run
        self.status = status
        self.type: str | None = error.get("type")
        self.message: str | None = error.get("message")
        self.traceback: str | None = error.get("traceback")
        self.reason: str | None = error.get("reason")
        what = ": ".join(part for part in (self.type, self.message) if part)
        text = f"run {run} ended {status}" + (f": {what}" if what else "")
        super().__init__(text + (f"\n\n{self.traceback}" if self.traceback else ""))


class WaitTimeout(SamovarError, TimeoutError):
    """What was waited for did not happen in time."""


class CoordinatorUnreachable(SamovarError, ConnectionError):
    """The coordinator did not answer."""


class ApiError(SamovarError):
    """The coordinator refused a request.

    `status` is the HTTP status, `code` a stable word, `fields` a list of `{"path", "message"}`.
    """

    def __init__(self, status: int, code: str, message: str, fields: Sequence[Field] = ()) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.fields = list(fields)
        listing = "; ".join(f"{field.get('path')}: {field.get('message')}" for field in self.fields)
        super().__init__(message + (f" ({listing})" if listing else ""))


class NotFound(ApiError):
    """There is no such thing at the coordinator."""


class Canceled(BaseException):
    """The run is canceled or has timed out.

    Raised inside the task on SIGTERM, so that `finally` and `with` blocks run in the grace time. Like
    KeyboardInterrupt it is no Exception: code that swallows errors should not swallow this.
    """


class Suspend(BaseException):
    """The run waits, and gives its container back; its function is called again when the wait is over.

    Let it through: `finally` and `with` blocks run, and whatever the task does after catching it is not kept.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = list(keys)
        super().__init__(f"the run waits: {', '.join(self.keys)}")
