"""Numbers, durations and memory as options have them: checked, with an error that names option and value."""

from __future__ import annotations

from samovar.errors import OptionError
from samovar.values.units import format_memory, parse_duration, parse_memory

#: The smallest memory a task may ask for: below it Python itself does not start reliably.
SMALLEST_MEMORY = 32 * 1024**2


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def duration(name: str, value: object, least: float, most: float) -> float:
    """Seconds of a duration between two. Raises OptionError."""
    close = ")" if "(" in name else ""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise OptionError(f"{name}={value!r}{close}: {error}") from None
    if not least <= seconds <= most:
        raise OptionError(f"{name}={value!r}{close}: give a duration from {least:g} s to {most:g} s")
    return seconds


def memory(name: str, value: object) -> int:
    """Bytes, enough for Python to start in. Raises OptionError."""
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
