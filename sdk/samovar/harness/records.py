"""Log records as lines of the run, with their level and logger, however the project sets up logging.

A plain Python prints records to stderr, and so do `logging.basicConfig` and a console handler of `dictConfig`. Here
such a handler (any `StreamHandler` on stdout or stderr) hands its record over instead: the text is what the handler
made of it, the level and the logger's name are the record's. Nothing else of `logging` is changed: where a project
sets up nothing, records from INFO up are kept.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from samovar import wire
from samovar.environment import importing
from samovar.harness import output
from samovar.harness.logs import LEVELS, cut
from samovar.harness.store import WireStore

if TYPE_CHECKING:  # it is imported where the project imports it
    import logging

#: Formats that say only what a line of a run says anyway.
_SAYS_NO_MORE = ("%(levelname)s:%(name)s:%(message)s", "%(levelname)s:%(message)s", "%(levelname)s %(message)s")
_store: WireStore | None = None
#: Of `logging`, as it was imported.
_bare: Any = None
_write_text: Any = None


def attach(store: WireStore) -> None:
    """From now on this process is a run's."""
    global _store
    _store = store


def detach() -> None:
    """This process is no run's any more, for now."""
    global _store
    _store = None


def capture() -> None:
    """Before the project's modules can set up logging. `logging.basicConfig` finds no handler, and works."""
    importing.when_imported("logging", _capture)


def _capture() -> None:
    global _bare, _write_text
    import logging

    _bare = logging.Formatter()
    handler: Any = logging.StreamHandler
    if handler.emit is not _emit:
        _write_text, handler.emit = handler.emit, _emit
    logging.getLogger().setLevel(logging.INFO)
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.NOTSET)


def _emit(self: logging.StreamHandler[Any], record: logging.LogRecord) -> None:
    import logging

    store = _store
    if store is None or not output.is_ours(self.stream):
        if self is logging.lastResort and self.stream is sys.stderr:  # at import, or in a process of the task's
            self.stream.write(f"{record.levelname}:{record.name}:{_bare.format(record)}\n")
        else:
            _write_text(self, record)
        return
    try:
        format = getattr(getattr(self.formatter, "_style", None), "_fmt", "")
        message = _bare.format(record) if format in _SAYS_NO_MORE else self.format(record)
        self.stream.flush()
        line = {
            "at": record.created,
            "level": _level(record),
            "logger": record.name,
            "message": cut(message),
        }
        output.settle()
        store.send({"type": wire.LOG, "lines": [line]})
    except RecursionError:
        raise
    except Exception:
        self.handleError(record)


def _level(record: logging.LogRecord) -> str:
    """The record's level, or that of the next standard one below a level of the project's own."""
    level = record.levelname.lower()
    if level not in LEVELS:
        import logging

        level = logging.getLevelName(min(record.levelno, 50) // 10 * 10).lower()
    return level if level in LEVELS else "debug" if record.levelno < 10 else "info"
