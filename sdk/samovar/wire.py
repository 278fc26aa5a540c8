"""The protocol between a task container and its sidecar: newline-delimited JSON over one unix socket.

One JSON object a line, UTF-8, at most MAX_LINE bytes with its newline. The container sends requests
(`id`, `type`, and the fields below); the sidecar answers each with one reply (`reply` = that id, `ok`).
The sidecar says nothing unasked but `assign` and `cancel`. The container never sends a credential: the
sidecar knows who speaks by the listener the connection came in on. (The ticket of `hello` is none: it tells
process 1 from other processes of its own container, and nothing else.) Written down for other languages in
docs/reference/container-protocol.md.

Requests, container → sidecar (every one but `hello` and `ready` names its `attempt`):

    hello           protocol, sdk, python, attempt (the one in progress after a reconnect, else null),
                    ticket (of the first reply, null before)    → ticket
    ready           error (null, or an error body: the project's modules could not be imported), memory (bytes)
    started         user code is about to run
    checkpoint.get  key                      → found, value
    checkpoint.put  key, took_ms (since its computation began, or null), value
                                             → stored (false: the run had this key), value (the one that holds)
    log             dropped, lines           lines: [{seq, at, level, stream, logger, message}];
                                             `partial` in one that has not ended, `replaces` (a seq) in
                                             what that one has become
    report          progress, metadata       either may be null; and `curve`, as in the usage of `finish`
    extend          seconds                  so much more than the timeout, in all, for this attempt
    wait            key, kind, name, spec    → state, and what became of it
    wait.result     key, index               → run, status, result, error: how a child ended
    finish          outcome, result | error, retry, waits, lines, dropped, usage (peak_memory_bytes, exit_code, and
                    curve: {interval_ms, points} of what was longer than a moment, with `near` where it came near
                    its limit: {at_ms, memory, scratch, processes, killed}), container (null where the run
                    handed over its end: what becomes of the container is said afterwards, by `released`)
    released        container, exit_code: nothing of the run that was finished before is left

`checkpoint.put` and `wait` are answered when they are durable at the coordinator, not before. After a lost
connection the container connects again, says `hello` with its attempt, and sends every request that was
not yet answered once more: each of them may be applied twice without harm.

The same lines, without `attempt`, run between process 1 and the process of a run over an inherited
socketpair, with what Python prints (`output`: stream, data); that process ends with `result`, `error` or `suspend`
(the keys it waits for) instead of `finish`, and says `ended` (peak) when nothing comes any more.

This file is a leaf: standard library only, Python 3.9, imported by the harness, the sidecar and the runner.
"""

from __future__ import annotations

import json

PROTOCOL = 1

#: Where the sidecar's directory is mounted in a container, and the socket's name in it. The directory is
#: mounted, not the socket: a mount of the socket itself is dead after the listener restarts.
SOCKET_DIRECTORY = "/run/samovar"
SOCKET_NAME = "sidecar.sock"
#: Beside it: where the process of a run asks for its secrets and files, with the ticket of its assignment.
RUN_SOCKET_NAME = "run.sock"
#: Beside it, what leads out to the network, where the container may reach any of it.
EGRESS_NAME = "egress.sock"
#: Beside it, where process 1 hands over its places of loopback; see samovar/harness/places.py.
PLACES_NAME = "places.sock"
#: What a container is told of it: see samovar/harness/egress.py.
EGRESS_VARIABLE = "SAMOVAR_EGRESS"
#: Where process 1 listens for what goes by a proxy: a place of the container's own loopback.
EGRESS_PROXY = "127.0.0.1:3128"

#: Where an image keeps the SDK, the project's dependencies and the project's code.
IMAGE_SDK = "/opt/samovar/sdk"
IMAGE_ENVIRONMENT = "/opt/samovar/env"
IMAGE_CODE = "/app"
#: The task index of an image, also stored in it: the modules to import stand in it.
IMAGE_MANIFEST = "/opt/samovar/manifest.json"

#: The user that processes in a task container have.
TASK_UID = 65532

MAX_LINE = 16 * 1024 * 1024
#: Largest encoded payload, result or checkpoint value, in bytes.
MAX_VALUE = 10 * 1024 * 1024
#: Lists and objects of a value inside one another, encoded: parsers on its way give up at 200.
MAX_DEPTH = 150
MAX_KEY = 512
#: Waits that one attempt may be suspended over.
MAX_WAITS = 10_000
MAX_LOG_MESSAGE = 16 * 1024
#: Log bytes kept of one attempt; what comes after is counted, not kept.
MAX_LOG_BYTES = 8 * 1024 * 1024
#: The same as the sidecar counts them: encoded, with all that a line has.
MAX_LOG_ENCODED = 10 * 1024 * 1024
#: Points of a memory curve, the bytes that they are counted in, and the most that one says.
CURVE_POINTS = 120
CURVE_UNIT = 64 * 1024
CURVE_MOST = 9_999_999
#: Processes that are named of a container near its limit.
HELD_PROCESSES = 5
#: Seconds without a sidecar after which the harness ends its run and itself: the lease is gone by then.
DISCONNECT_LIMIT = 25.0

HELLO = "hello"
READY = "ready"
STARTED = "started"
CHECKPOINT_GET = "checkpoint.get"
CHECKPOINT_PUT = "checkpoint.put"
LOG = "log"
REPORT = "report"
EXTEND = "extend"
WAIT = "wait"
WAIT_RESULT = "wait.result"
FINISH = "finish"
RELEASED = "released"
REQUESTS = frozenset(
    {
        *(HELLO, READY, STARTED, CHECKPOINT_GET, CHECKPOINT_PUT, LOG, REPORT, EXTEND, WAIT, WAIT_RESULT),
        *(FINISH, RELEASED),
    }
)

ASSIGN = "assign"
CANCEL = "cancel"

#: Only between process 1 and a run's process.
RESULT = "result"
OUTPUT = "output"
ERROR = "error"
SUSPEND = "suspend"
ENDED = "ended"
RUN_REQUESTS = frozenset(
    {
        *(CHECKPOINT_GET, CHECKPOINT_PUT, LOG, OUTPUT, REPORT, EXTEND, WAIT, WAIT_RESULT),
        *(RESULT, ERROR, SUSPEND, ENDED),
    }
)

#: Members that may be long: the one that is comes last in its line.
LONG = ("value", "spec", "lines", "waits", "result")

#: `outcome` of `finish`.
COMPLETED = "completed"
FAILED = "failed"
CANCELED = "canceled"
TIMED_OUT = "timed_out"
WAITING = "waiting"

#: `reason` in an error.
REASON_EXCEPTION = "exception"
REASON_OUT_OF_MEMORY = "out_of_memory"
REASON_TIMEOUT = "timeout"
REASON_LOST = "lost"
REASON_CANCELED = "canceled"
REASON_REJECTED = "rejected"

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict


class ProtocolError(Exception):
    """A line broke the protocol: too long, not a JSON object, or of an unknown type."""


#: Made once: `json.dumps` makes an encoder for each call that has options.
_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def encode(message: Message) -> bytes:
    """`message` as one line. Raises ProtocolError when it is longer than MAX_LINE."""
    line = _as_json(message)
    # a lone surrogate is not UTF-8; it reaches here only from text that a decoder let through
    data = line.encode("utf-8", "replace") + b"\n"
    if len(data) > MAX_LINE:
        raise ProtocolError(f"a line of {len(data)} bytes is longer than {MAX_LINE}")
    return data


def decode(line: bytes | bytearray) -> Message:
    """The message in `line`. Raises ProtocolError when it is none."""
    try:
        text = line.decode("utf-8", "surrogatepass")  # as json.loads has it
        try:
            message, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):  # spaces around it, or it is none: the long way says which
            message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a line of JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"a line is a JSON object, not {type(message).__name__}")
    return message


class LineBuffer:
    """Bytes in, whole messages out; raises ProtocolError as soon as a line grows past its cap."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, in order."""
        return [decode(line) for line in self.lines(data)]

    def lines(self, data: bytes) -> list[bytes]:
        """The same, as they came: lines that are not empty."""
        found: list[bytes] = []
        start = 0
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                break
            self._keep(data[start:end])
            line = b"".join(self._parts)
            self._parts, self._size = [], 0
            start = end + 1
            if line.strip():
                found.append(line)
        self._keep(data[start:])
        return found

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise ProtocolError(f"a line is longer than {self._limit} bytes")
        if part:
            self._parts.append(part)


def reply(request: Message, **fields: Any) -> Message:
    """The reply that grants `request`."""
    return {"reply": request.get("id"), "ok": True, **fields}


def refusal(request: Message, code: str, message: str, **more: Any) -> Message:
    """The reply that refuses `request`, with a stable `code` and a sentence for people."""
    return {"reply": request.get("id"), "ok": False, "error": {"code": code, "message": message, **more}}


def error_body(
    type_name: str, message: str, *, reason: str = REASON_EXCEPTION, traceback: str | None = None
) -> dict[str, Any]:
    """An error as every part of Samovar writes it: `{type, message, traceback, reason}`."""
    return {"type": type_name, "message": message, "traceback": traceback, "reason": reason}
