"""Keeps the three server processes alive, each with an environment of its own, and ends them in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_LOG_BYTES = 10 * 1024 * 1024
_LOG_FILES = 3
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
#: Seconds after which a process counts as well again, and the pause before its next restart is short.
_WELL_AFTER = 10.0
_SHOWN_LEVELS = frozenset({"warning", "error", "critical"})

#: Seconds for which a warning is not shown again; the log has them all.
_QUIET = 30.0
#: Runs a module as a child that does not outlive this process.
CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Part:
    """One of the server's processes: its module, all of its environment, and how long it may take to stop."""

    name: str
    environment: Mapping[str, str]
    patience: float


@dataclass
class _Child:
    part: Part
    process: subprocess.Popen[bytes] | None = None
    pump: threading.Thread | None = None
    started: float = 0.0
    pause: float = _FIRST_PAUSE
    due: float = 0.0
    deaths: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    shown: dict[str, float] = field(default_factory=dict)

    def shows(self, text: str, now: float) -> bool:
        """Whether a warning is news: what is tried again says the same for as long as it fails."""
        event = text.partition(" (")[0]
        if now - self.shown.get(event, -_QUIET) < _QUIET:
            return False
        self.shown[event] = now
        if len(self.shown) > 1000:
            self.shown.clear()
        return True


class Supervisor:
    """Starts parts, starts again what dies, stops in the order asked for.

    To be used from one thread, the main one: on Linux a child's end is tied to the thread that started it.
    `say` gets a line for people about anything noteworthy; `keep` are descriptors that children inherit.
    """

    def __init__(
        self, *, logs: Path, directory: Path, say: Callable[[str], None], keep: tuple[int, ...] = ()
    ) -> None:
        self._logs = logs
        self._directory = directory
        self._say = say
        self._keep = keep
        self._children: dict[str, _Child] = {}
        logs.mkdir(mode=0o700, exist_ok=True)

    def start(self, part: Part) -> None:
        """Start `part` and look after it from now on."""
        child = self._children[part.name] = _Child(part)
        self._spawn(child)

    def tick(self) -> None:
        """Look after the children once: note who died, start again whose pause is over."""
        now = time.monotonic()
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._note_death(child, now)
            if child.process is None and now >= child.due:
                self._spawn(child)

    def deaths(self, name: str) -> int:
        """How often the part has died on its own."""
        return self._children[name].deaths

    def tail(self, name: str) -> list[str]:
        """The last lines that the part wrote."""
        return list(self._children[name].tail)

    def stop(self, names: list[str]) -> None:
        """Stop the parts one after the other: SIGTERM, patience, SIGKILL."""
        for name in names:
            child = self._children.pop(name, None)
            if child is None or child.process is None:
                continue
            child.process.send_signal(signal.SIGTERM)
            try:
                child.process.wait(child.part.patience)
            except subprocess.TimeoutExpired:
                self._say(f"{name} did not stop within {child.part.patience:g} s and is killed")
                child.process.kill()
                child.process.wait()
            self._drain(child)

    def kill(self) -> None:
        """End everything now."""
        for child in self._children.values():
            if child.process is not None:
                child.process.kill()
                child.process.wait()
        self._children.clear()

    def _spawn(self, child: _Child) -> None:
        child.process = subprocess.Popen(
            # -P: nothing is imported from the directory it is started in
            [sys.executable, "-P", str(CHILD), str(os.getpid()), str(int(signal.SIGKILL)), child.part.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(child.part.environment),
            cwd=self._directory,
            # Ctrl-C is for the supervisor, which stops the parts in order
            start_new_session=True,
            pass_fds=self._keep,
        )
        child.started = time.monotonic()
        assert child.process.stdout is not None, "a pipe was asked for"
        child.pump = threading.Thread(
            target=self._read, args=(child, child.process.stdout), name=f"{child.part.name} log", daemon=True
        )
        child.pump.start()

    def _note_death(self, child: _Child, now: float) -> None:
        assert child.process is not None, "called for one that died"
        code = child.process.returncode
        self._drain(child)
        child.process = None
        child.deaths += 1
        child.pause = _FIRST_PAUSE if now - child.started > _WELL_AFTER else min(child.pause * 2, _LONGEST_PAUSE)
        child.due = now + child.pause
        how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._say(f"{child.part.name} {how}; starting it again in {child.pause:g} s")

    @staticmethod
    def _drain(child: _Child) -> None:
        if child.pump is not None:
            child.pump.join(2.0)

    def _read(self, child: _Child, stream: IO[bytes]) -> None:
        log = BoundedLog(self._logs / f"{child.part.name}.log")
        with stream, log:
            for line in iter(lambda: stream.readline(64 * 1024), b""):
                log.write(line)
                text = line.decode("utf-8", "replace").rstrip()
                child.tail.append(text)
                shown = noteworthy(text)
                if shown is not None and child.shows(shown, time.monotonic()):
                    self._say(f"{child.part.name}: {shown}")


class BoundedLog:
    """A log file that is set aside when it has grown, the oldest thrown away."""

    def __init__(self, path: Path, *, most: int = _LOG_BYTES, files: int = _LOG_FILES) -> None:
        self._path = path
        self._most = most
        self._files = files
        self._open()

    def __enter__(self) -> BoundedLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, line: bytes) -> None:
        """Add `line`; a disk that is full loses log lines, not the process that wrote them."""
        try:
            if self._size + len(line) > self._most:
                self._rotate()
            self._file.write(line)
            self._file.flush()
            self._size += len(line)
        except OSError:
            return

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab")
        self._size = os.fstat(descriptor).st_size

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        self._open()


def noteworthy(line: str) -> str | None:
    """What of a log line is shown to people: warnings and worse, as one readable line."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or str(record.get("level", "")).lower() not in _SHOWN_LEVELS:
        return None
    rest = {
        name: value
        for name, value in record.items()
        if name not in {"level", "event", "timestamp", "exception", "logger"}
        and not isinstance(value, (dict, list))
    }
    details = ", ".join(f"{name}={value}" for name, value in rest.items())
    return f"{record.get('event', '')}{f' ({details})' if details else ''}"
