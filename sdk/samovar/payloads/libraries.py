"""Values of numpy and pandas as Python's own; neither is imported here, and neither is looked for in vain.

Calculations give these where a program means a number: `frame["x"].sum()` is a numpy.int64.
"""

from __future__ import annotations

import sys
from typing import Any


def unwrap(value: Any, *, tagged: bool) -> Any:
    """What a scalar of numpy or pandas holds; `value` itself where it is none.

    Without `tagged` numpy's arrays become lists, and a date keeps its nanoseconds as ISO text. With it, arrays stay
    what they are (and are refused: a list would come back), and dates become Python's.
    """
    library = type(value).__module__.partition(".")[0]
    if library == "pandas":
        return _pandas(value)
    if library == "numpy":
        return _numpy(value, tagged)
    return value


def _pandas(value: Any) -> Any:
    pandas = sys.modules["pandas"]
    if value is getattr(pandas, "NA", None) or value is getattr(pandas, "NaT", None):
        return None
    period = getattr(pandas, "Period", None)
    return str(value) if period is not None and isinstance(value, period) else value


def _numpy(value: Any, tagged: bool) -> Any:
    numpy: Any = sys.modules["numpy"]
    if isinstance(value, numpy.ndarray):
        return value[()] if value.ndim == 0 else value if tagged else _Rows(value)
    if isinstance(value, numpy.bool_):
        return bool(value)
    if isinstance(value, numpy.timedelta64):  # before integers, of which numpy holds it to be one
        return None if numpy.isnat(value) else _timedelta(value, numpy)
    if isinstance(value, numpy.integer):
        return int(value)
    if isinstance(value, numpy.floating):
        return float(value)
    if isinstance(value, numpy.datetime64):
        return None if numpy.isnat(value) else _datetime(value, tagged)
    if isinstance(value, numpy.str_):
        return str(value)
    return bytes(value) if isinstance(value, numpy.bytes_) else value


def _timedelta(value: Any, numpy: Any) -> Any:
    import datetime

    if numpy.datetime_data(value.dtype)[0] == "generic":
        return int(value.astype("int64"))
    exact = value.astype("timedelta64[us]").item()
    return exact if isinstance(exact, datetime.timedelta) else value  # months have no length


def _datetime(value: Any, tagged: bool) -> Any:
    return value.item() if tagged and not isinstance(value.item(), int) else str(value)


class _Rows(list[Any]):
    """An array as a list; its items are unwrapped as they are reached, so that what is too large is not copied."""

    def __init__(self, array: Any) -> None:
        super().__init__()
        self._array = array
        #: Bytes of JSON that it is at least: a digit and a comma for each item.
        self.least = 2 * int(array.size)

    def __iter__(self) -> Any:
        return iter(self._array)

    def __len__(self) -> int:
        return len(self._array)
