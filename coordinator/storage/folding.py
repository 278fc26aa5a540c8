"""SQLite's log is folded into the database beside the writer, and not by it.

By itself SQLite does it in the commit that makes the log 4 MB long: the pages are copied and synced, for some tens
of milliseconds, while everybody's writes wait. A passive fold takes no lock that a writer needs. What is durable is
so by the log: nothing depends on when this is done.
"""

from __future__ import annotations

import sqlite3
import threading

import structlog

log = structlog.get_logger()

#: Writes after which it is done: few enough that there is little to copy.
EVERY = 100
#: Pages after which a commit does it all the same: the log stays bounded where this can't keep up.
AT_THE_LATEST = 16_000


class Folding:
    """Used from any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writes = 0
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def wrote(self) -> None:
        """To be called after a write."""
        self._writes += 1
        if self._writes >= EVERY and not self._closed:
            self._writes = 0
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fold", daemon=True)
                self._thread.start()
            self._wanted.set()

    def close(self) -> None:
        self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=1)
        try:
            # as the writer: what is folded is on the disk before the log may be begun anew
            connection.execute("PRAGMA synchronous=FULL")
            while True:
                self._wanted.wait()
                self._wanted.clear()
                if self._closed:
                    return
                try:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                except sqlite3.Error as error:
                    log.debug("the log was not folded", problem=str(error))
        finally:
            connection.close()
