"""JSON values on their way into and out of rows: encoded once, measured, and large ones kept as blobs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pydantic_core

from coordinator.foundation.counting import count, has
from coordinator.foundation.errors import TooLarge, invalid_field
from coordinator.foundation.limits import INLINE, MAX_DEPTH, MAX_VALUE
from coordinator.foundation.turns import Turns
from coordinator.storage.blobs import Blobs
from coordinator.wire import Json

T = TypeVar("T")

#: Blobs that are read or written at once; of one line (foundation/turns.py) one.
_AT_ONCE = 4
#: Bytes from which on text is read by the faster parser; for what is short it makes no difference.
_LONG = 4096


class Encoded(NamedTuple):
    """A value as JSON text, and that text's size in UTF-8."""

    text: str
    size: int


class Stored(NamedTuple):
    """Where a value is: in the row as text, or in a blob by name; neither is no value."""

    text: str | None = None
    blob: str | None = None
    size: int = 0


def encode(value: Any, path: str, limit: int = MAX_VALUE) -> Encoded:
    """`value` as JSON. Raises Invalid or TooLarge, naming `path`."""
    try:
        text = _quickly(value) or json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise invalid_field(path, "has text with half a surrogate pair, which is not Unicode") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid_field(path, f"is not JSON: {error} (NaN and infinities are not)") from None
    if size > limit:
        raise TooLarge(
            f"{path}: {size} bytes as JSON, the limit is {limit}; keep the data in a file or a store of your "
            "own and pass its name"
        )
    # few brackets cannot be deep: most values are never looked through
    if count(text, "[") + count(text, "{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise invalid_field(path, f"is nested more than {MAX_DEPTH} deep as JSON; flatten it, or send it as text")
    return Encoded(text, size)


def _quickly(value: Any) -> str | None:
    """What has come as JSON, as JSON, six times as fast as by `json`, which holds the interpreter all that time.

    None for what `json` is to say the mistake of. Numbers that are none are looked for in all of the text: a value
    that only speaks of them takes the long way too.
    """
    if not isinstance(value, (dict, list, str)):
        return None
    try:
        data = pydantic_core.to_json(value, inf_nan_mode="constants")
    except ValueError:
        return None
    return None if has(data, b"NaN") or has(data, b"Infinity") else data.decode()


def _deeper(value: Any, most: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(most):
        inner = (item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer))
        level = [item for item in inner if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def encode_small(value: Any) -> str:
    """A value that this part made or has checked already, as JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def decode(text: str | bytes | None) -> Any:
    """What `encode` and `encode_small` have made. Raises ValueError where it is none of theirs."""
    if text is None or len(text) < _LONG:
        return None if text is None else json.loads(text)
    try:
        return pydantic_core.from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)  # deeper than the other one reads


def digest(value: Any) -> str:
    """The SHA-256 of `value` as JSON with sorted keys: equal for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def inline(encoded: Encoded) -> Stored:
    """A value that is known to be small enough to stand in its row."""
    assert encoded.size <= INLINE
    return Stored(encoded.text, None, encoded.size)


class Values:
    """Puts values where they belong by their size, and brings them back.

    Blobs are written in turns, one of a line at a time: whoever writes many of them shares the disk with those
    whose transactions are being committed.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._turns = Turns(_AT_ONCE, "value", share=1)

    def close(self) -> None:
        self._turns.shutdown()

    async def keep(self, data: bytes) -> str:
        """The name of the blob that has `data`."""
        return await self._in_turn(lambda: self._blobs.put(data))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._turns.submit(work))

    async def put(self, encoded: Encoded) -> Stored:
        """Before the transaction that refers to it: a blob nobody refers to does no harm."""
        if encoded.size <= INLINE:
            return Stored(encoded.text, None, encoded.size)
        name = await self._in_turn(lambda: self._blobs.put(encoded.text.encode()))
        return Stored(None, name, encoded.size)

    async def get(self, stored: Stored) -> Json:
        if stored.blob is not None:
            blob = stored.blob
            # decoded there as well: it may be of 10 MiB
            return await self._in_turn(lambda: decode(self._blobs.get(blob)))
        return decode(stored.text)  # type: ignore[no-any-return]
