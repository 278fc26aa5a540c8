"""What changes in a project's folder: the files that a deploy packs, looked at again and again.

Polled, and by size and time alone: that needs nothing installed, works on shares and in containers where the
kernel's notices do not arrive, and a second of delay is little beside a build.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

from samovar.cli.errors import CliError
from samovar.cli.pack import CONFIG_NAME, included_files, project_files, read_config

PAUSE = 0.5
#: Looking at a large project takes a while; it is not to take more than a tenth of a core.
_SHARE = 10.0
#: Seconds after which a folder that never comes to rest is deployed as it is.
_RESTLESS = 5.0

#: What is there, by its name in the archive: what kind it is, its size in bytes, and when it was written.
Look = dict[str, tuple[Any, ...]]


class Changes:
    """The files of the project in `root`; for one thread."""

    def __init__(self, root: Path, *, pause: float = PAUSE) -> None:
        self._root = root
        self._pause = pause
        self._config: dict[str, Any] = {"project": {}}

    def look(self) -> Look:
        """What is there now. What can't be packed is part of the answer too: it may be set right."""
        found: Look = {CONFIG_NAME: _state(self._root / CONFIG_NAME)}
        with contextlib.suppress(CliError):
            # while samovar.toml is broken, what it included before is what it will include
            self._config = read_config(self._root)
        try:
            for path in project_files(self._root):
                found[path.relative_to(self._root).as_posix()] = _state(path)
        except CliError as error:
            found["not the project"] = (error.message,)
        try:
            for name, path in included_files(self._root, self._config).items():
                found[name] = _state(path)
        except CliError as error:
            found["not included"] = (error.message, str(error.fields))
        return found

    def wait(self, before: Look, ending: threading.Event) -> list[str]:
        """Wait until something is otherwise than in `before` and has come to rest; the names of what changed.

        Empty where `ending` was set.
        """
        last, since = before, 0.0
        while True:
            began = time.monotonic()
            now = self.look()
            end = time.monotonic()
            if now != before:
                since = since or end
                # an editor writes in several steps, and a checkout in many
                if now == last or end - since > _RESTLESS:
                    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            else:
                since = 0.0
            last = now
            if ending.wait(max(self._pause, (end - began) * _SHARE)):
                return []


def _state(path: Path) -> tuple[Any, ...]:
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return ("link", os.readlink(path))
        if stat.S_ISDIR(found.st_mode):
            # what is in it is looked at by itself; its time changes with what is never packed, too
            return ("directory",)
    except OSError:
        # it went while it was looked at
        return ("gone",)
    return ("file", found.st_size, found.st_mtime_ns, found.st_ino, bool(found.st_mode & 0o100))
