"""What the driver says of a database that cannot serve, in the words of the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc as sa

from coordinator.foundation.errors import Invalid, StorageUnavailable


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turns what the driver says of a database that cannot serve into StorageUnavailable."""
    try:
        yield
    except (sa.DataError, OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"a value that the database cannot hold: {_first_line(error)}") from error
    except (sa.DBAPIError, sa.TimeoutError) as error:
        if not _is_unavailable(error):
            raise
        raise StorageUnavailable(
            f"the database cannot be used now: {_first_line(error)}; nothing was changed, try again"
        ) from error


def _is_unavailable(error: sa.DBAPIError | sa.TimeoutError) -> bool:
    if isinstance(error, (sa.OperationalError, sa.InterfaceError, sa.TimeoutError)):
        return True
    # 25006: the server, or the role, takes no writes for now
    if getattr(error.orig, "sqlstate", None) == "25006":
        return True
    # exactly DatabaseError is what SQLite says of a file that is not, or no longer, a database
    return error.connection_invalidated or type(error) is sa.DatabaseError


def _first_line(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0] if lines else type(original).__name__
