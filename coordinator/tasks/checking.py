"""Checks that may take long, in processes of their own: each ends at its deadline, whatever it is at.

Two processes, and of one project one check at a time: a schema that explodes costs its own project a turn, and
nobody else more than the one processor it is on. A process that runs over its time or its memory is killed, and
another one started for the next check.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict

from coordinator.confined import PAYLOADS
from coordinator.foundation import again
from coordinator.wire import FieldProblem

#: Seconds of one check, by the clock on the wall; and until a process that was just started is ready.
DEADLINE = PAYLOADS.deadline
_START = 60.0
PROCESSES = 2
#: Verdicts that are kept: the transaction they are for comes by again, with up to 1,000 of them.
_KEPT = 1200
_LARGEST_ANSWER = 1024 * 1024

Verdict = list[FieldProblem]


class _Process:
    """One process that checks; asked by one thread at a time."""

    def __init__(self) -> None:
        # the interpreter alone: no variable of this process is any of its business
        self._child = subprocess.Popen(
            [sys.executable, "-m", "coordinator.tasks.checker", str(int(DEADLINE) + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._answer(time.monotonic() + _START)

    def ask(self, request: bytes, seconds: float) -> Verdict | None:
        """None where there was no answer in time: the process is gone then."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request + b"\n")
            self._child.stdin.flush()
            answer = self._answer(time.monotonic() + seconds)
        except OSError:
            answer = None
        if answer is None:
            self.kill()
            return None
        return [FieldProblem(**problem) for problem in json.loads(answer)]

    def _answer(self, until: float) -> bytes | None:
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        data = b""
        while not data.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return None
            part = os.read(descriptor, 65536)
            if not part or len(data) > _LARGEST_ANSWER:
                return None
            data += part
        return data

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


class _Pool:
    """Waiters take turns: one check of a project at a time, and so many processes in all."""

    def __init__(self, count: int) -> None:
        self._turn = threading.Condition()
        self._free = count
        self._busy: set[str] = set()
        self._idle: list[_Process] = []

    def ask(self, project: str, request: bytes) -> Verdict | None:
        with self._turn:
            self._turn.wait_for(lambda: self._free > 0 and project not in self._busy)
            self._free -= 1
            self._busy.add(project)
            process = self._idle.pop() if self._idle else None
        found: Verdict | None = None
        try:
            process = process or _Process()
            found = process.ask(request, DEADLINE)
        finally:
            with self._turn:
                if found is not None and process is not None:
                    self._idle.append(process)
                self._free += 1
                self._busy.discard(project)
                self._turn.notify_all()
        return found

    def close(self) -> None:
        with self._turn:
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()


_pool = _Pool(PROCESSES)
_lock = threading.Lock()
_verdicts: OrderedDict[bytes, Verdict] = OrderedDict()


def check(project: str, schema: str, payload: str) -> Verdict:
    """The problems of a payload, given as JSON. Raises Again in a transaction, unless this was found out before."""
    request = f"[{json.dumps(schema)},{payload}]".encode()
    key = hashlib.sha256(request).digest()
    with _lock:
        known = _verdicts.get(key)
        if known is not None:
            _verdicts.move_to_end(key)
            return known

    def work() -> None:
        found = _pool.ask(project, request)
        if found is None:
            message = (
                f"can't be checked against the task's schema within {DEADLINE:g} s: send less at once, or have the "
                "task annotated with simpler types (unions inside one another are what takes long)"
            )
            found = [FieldProblem(path="payload", message=message)]
        with _lock:
            _verdicts[key] = found
            while len(_verdicts) > _KEPT:
                _verdicts.popitem(last=False)

    again.demand(project, work)
    with _lock:
        return _verdicts[key]


def close() -> None:
    """Ends the processes that wait for work."""
    _pool.close()
