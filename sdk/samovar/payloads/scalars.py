"""Scalars of modules that only some projects load: an annotation of theirs says that this one has (schema.py)."""

from __future__ import annotations

import functools
from typing import Any, Callable

from samovar.payloads.shape import Scalar, Shape


def _moments() -> dict[Any, Shape]:
    import datetime

    from samovar.payloads import moments

    def seconds(value: float) -> datetime.timedelta:
        return datetime.timedelta(seconds=value)

    texts: tuple[tuple[Any, str, str, str, Callable[[str], Any]], ...] = (
        (datetime.datetime, "a date and time such as", "date-time", moments.DATETIME, moments.read_datetime),
        (datetime.date, "a date such as", "date", moments.DATE, moments.read_date),
        (datetime.time, "a time such as", "time", moments.TIME, moments.read_time),
    )
    scalars: dict[Any, Shape] = {
        kind: Scalar(
            f'{name} "{moments.EXAMPLES[form]}"',
            (kind,),
            {"type": "string", "format": form, "pattern": pattern},
            read,
        )
        for kind, name, form, pattern, read in texts
    }
    longest = datetime.timedelta.max.total_seconds() - 1
    scalars[datetime.timedelta] = Scalar(
        "a number of seconds",
        (datetime.timedelta,),
        {"type": "number", "minimum": -longest, "maximum": longest},
        seconds,
        (int, float),
    )
    return scalars


def _decimals() -> dict[Any, Shape]:
    from decimal import Decimal

    def exact(value: str | float) -> Decimal:
        number = Decimal(str(value))
        if not number.is_finite():
            raise ValueError
        return number

    schema = {"type": ["string", "number"], "format": "decimal"}
    return {Decimal: Scalar('a decimal number such as "19.99"', (Decimal,), schema, exact, (str, int, float))}


def _uuids() -> dict[Any, Shape]:
    from uuid import UUID

    return {UUID: Scalar("a UUID", (UUID,), {"type": "string", "format": "uuid"}, UUID)}


def _paths() -> dict[Any, Shape]:
    import pathlib

    paths = (pathlib.Path, pathlib.PurePath, pathlib.PosixPath, pathlib.PurePosixPath)
    return {path: Scalar("a path as text", paths, {"type": "string"}, path) for path in paths}


def _files() -> dict[Any, Shape]:
    from samovar.values.file import REFERENCE, File

    schema = {
        "type": "object",
        "properties": {REFERENCE: {"type": "string"}, "name": {"type": "string"}, "size": {"type": "integer"}},
        "required": [REFERENCE],
        "additionalProperties": False,
    }
    return {File: Scalar('a file: {"$file": its id}', (File,), schema, File.of, (dict,))}


#: By the package that they are of; `samovar` is what this one itself declares.
LIBRARIES: dict[str, Callable[[], dict[Any, Shape]]] = {
    "datetime": _moments,
    "decimal": _decimals,
    "uuid": _uuids,
    "pathlib": _paths,
    "samovar": _files,
}


@functools.cache
def library_scalars(library: str) -> dict[Any, Shape]:
    """Those of one of LIBRARIES; no other one is imported for it."""
    return LIBRARIES[library]()
