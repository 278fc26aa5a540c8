"""Tracebacks as their reader wants them: whole, but of the user's code."""

from __future__ import annotations

import os
import traceback
from typing import Any

#: Where the SDK is: this file is two folders below.
_SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LOOP = os.sep + "asyncio" + os.sep
#: Longest text of an error's message and of its traceback, in characters.
MAX_MESSAGE = 16 * 1024
MAX_TRACEBACK = 256 * 1024


def format_exception(error: BaseException) -> str:
    """The traceback of `error` with its causes, without the SDK's frames and the event loop's leading ones."""
    try:
        formatted: Any = traceback.TracebackException.from_exception(error)
        _clean(formatted, set())
        text = "".join(formatted.format())
    except Exception as failure:  # __str__ of the user's exception may raise anything
        text = f"{type(error).__name__}: (the traceback can't be shown: {failure!r})"
    return shorten(text, MAX_TRACEBACK)


def describe(error: BaseException) -> str:
    """The message of `error`."""
    try:
        text = str(error)
    except Exception as failure:
        text = f"(its message can't be shown: {failure!r})"
    return shorten(text, MAX_MESSAGE)


def shorten(text: str, most: int) -> str:
    """`text`, its middle left out where it is longer than `most`."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _clean(formatted: Any | None, seen: set[int]) -> None:
    if formatted is None or id(formatted) in seen:
        return
    seen.add(id(formatted))
    frames = [frame for frame in formatted.stack if not frame.filename.startswith(_SDK)]
    while len(frames) > 1 and _LOOP in frames[0].filename:
        frames.pop(0)
    formatted.stack = traceback.StackSummary.from_list(frames)
    _clean(formatted.__cause__, seen)
    _clean(formatted.__context__, seen)
    for member in getattr(formatted, "exceptions", None) or ():
        _clean(member, seen)
