"""What the coordinator refuses, and how each refusal looks over HTTP.

CoordinatorError                 (500 internal)
├── Refused                      the request's fault
│   ├── Invalid                  422  a field is wrong; every wrong field is named
│   ├── NotFound                 404
│   ├── Conflict                 409  the state of things forbids it
│   │   └── StaleAttempt         409  the lease token is not the current one: nothing was written
│   ├── Gone                     410  its time is over
│   ├── TooLarge                 413
│   ├── RateLimited              429  beyond a queue's rate; `retry_after` says when it opens
│   │   └── TooMuch              429  beyond what a project may have
│   ├── Unauthenticated          401  no usable key
│   ├── Forbidden                403  a key, but not one for this
│   └── Misdirected              421  asked at another listener than the one that answers this
├── StorageUnavailable           503  the database or the blob store cannot take or give anything now
├── SchemaTooNew                      at the start: the database is that of a later version
└── DirectoryUnusable                 at the start: the data directory is not this process's alone
"""

from __future__ import annotations

from coordinator.wire import FieldProblem, Problem


class CoordinatorError(Exception):
    """Base of the coordinator's errors: a stable code for programs, a sentence for people."""

    status = 500
    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, fields: list[FieldProblem] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.fields = fields or []

    def problem(self) -> Problem:
        """The body of the answer, without its `{"error": …}`."""
        return Problem(code=self.code, message=self.message, fields=self.fields)


class Refused(CoordinatorError):
    status = 400
    code = "refused"
    #: Which item of a batch it is about, from 0.
    item: int | None = None


class Invalid(Refused):
    status = 422
    code = "invalid"


class NotFound(Refused):
    status = 404
    code = "not_found"


class Conflict(Refused):
    status = 409
    code = "conflict"


class StaleAttempt(Conflict):
    """This attempt's lease is not the current one: nothing was written."""

    code = "stale_attempt"


class Gone(Refused):
    status = 410
    code = "gone"


class TooLarge(Refused):
    status = 413
    code = "too_large"


class RateLimited(Refused):
    """Beyond a queue's rate. `retry_after`: seconds until it lets the next one in."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooMuch(RateLimited):
    """Beyond what a project, or a run with its descendants, may have."""

    code = "project_full"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, 10.0)
        self.code = code or type(self).code


class Unauthenticated(Refused):
    status = 401
    code = "unauthenticated"


class Forbidden(Refused):
    status = 403
    code = "forbidden"


class Misdirected(Refused):
    status = 421
    code = "misdirected"


class StorageUnavailable(CoordinatorError):
    status = 503
    code = "storage_unavailable"
    #: Seconds after which it is worth another try.
    retry_after = 1.0


class SchemaTooNew(CoordinatorError):
    """The database was migrated by a later version of the coordinator."""

    code = "schema_too_new"


def invalid_field(path: str, message: str) -> Invalid:
    """One wrong field, named in the sentence as well."""
    return Invalid(f"{path}: {message}", fields=[FieldProblem(path=path, message=message)])


class DirectoryUnusable(CoordinatorError):
    """The data directory cannot be made, or is open to other users and cannot be closed."""
