"""What the end of an attempt means: from the evidence to `outcome`, `error` and `retry` of `finish`."""

from __future__ import annotations

import os
import signal

from samovar import wire
from samovar.wire import Message

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any

MAX_MESSAGE = 16 * 1024
MAX_TRACEBACK = 512 * 1024

_MEANINGS = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGBUS: "a bus error",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGILL: "an illegal instruction",
    signal.SIGABRT: "abort()",
    signal.SIGSYS: "a forbidden system call",
    signal.SIGKILL: "killed",
    signal.SIGTERM: "asked to end",
}


class Evidence:
    """What is known when an attempt is over."""

    def __init__(
        self,
        *,
        last_word: Message | None = None,
        status: int | None = None,
        cancel: str | None = None,
        cancel_message: str | None = None,
        word_before_cancel: bool = False,
        oom_kills: int = 0,
        memory_limit: int = 0,
        peak: int = 0,
        zygote_died: int | None = None,
    ) -> None:
        #: The run's `result` or `error`, as its process sent it.
        self.last_word = last_word
        #: Wait status of the run's process; None where it never was, or was lost with the zygote.
        self.status = status
        #: "canceled" or "timeout", where one was asked for.
        self.cancel = cancel
        self.cancel_message = cancel_message
        self.word_before_cancel = word_before_cancel
        self.oom_kills = oom_kills
        self.memory_limit = memory_limit
        self.peak = peak
        self.zygote_died = zygote_died


def judge(evidence: Evidence) -> Message:
    """`{"outcome", "result", "waits" or "error", "retry"}`."""
    word = evidence.last_word
    if word is not None and word.get("type") == wire.RESULT:
        return {"outcome": wire.COMPLETED, "result": word.get("value")}
    in_time = evidence.cancel != "timeout" or evidence.word_before_cancel
    if word is not None and word.get("type") == wire.SUSPEND and in_time:
        # also after a cancel: the coordinator knows of that, and does not let the run go on
        return {"outcome": wire.WAITING, "waits": clean_keys(word.get("waits"))}
    if evidence.cancel is not None and not evidence.word_before_cancel:
        return _canceled(evidence)
    if word is not None:
        failure: Message = {"outcome": wire.FAILED, "error": clean_error(word.get("error"))}
        failure["retry"] = clean_retry(word.get("retry"))
        if evidence.oom_kills and failure["error"]["reason"] == wire.REASON_EXCEPTION:
            # a worker process of the task was killed, and the exception is what the task made of it
            failure["error"]["reason"] = wire.REASON_OUT_OF_MEMORY
            failure["error"]["message"] += f"\n{_memory_advice(evidence)}"
        return failure
    if evidence.oom_kills and (evidence.zygote_died is not None or _killed_by(evidence.status) == signal.SIGKILL):
        error = wire.error_body("OutOfMemory", _memory_advice(evidence), reason=wire.REASON_OUT_OF_MEMORY)
    elif evidence.zygote_died is not None:
        error = wire.error_body(
            "ProcessKilled",
            f"the process that holds the project's modules {describe_status(evidence.zygote_died)}; "
            "something in the task killed its parent",
        )
    else:
        name = "ProcessKilled" if _killed_by(evidence.status) else "ProcessExited"
        error = wire.error_body(
            name, f"the task's process {describe_status(evidence.status)} before the task returned"
        )
    return {"outcome": wire.FAILED, "error": error, "retry": {"allowed": True, "after": None}}


def _canceled(evidence: Evidence) -> Message:
    """The traceback stays: it says where a task was when its time ran out."""
    word = evidence.last_word
    traceback = clean_error(word.get("error"))["traceback"] if word is not None else None
    if evidence.cancel == "timeout":
        message = evidence.cancel_message or "the attempt ran longer than the task's timeout"
        error = wire.error_body("Timeout", message, reason=wire.REASON_TIMEOUT, traceback=traceback)
        return {"outcome": wire.TIMED_OUT, "error": error, "retry": {"allowed": True, "after": None}}
    message = evidence.cancel_message or "the run was canceled"
    error = wire.error_body("Canceled", message, reason=wire.REASON_CANCELED, traceback=traceback)
    return {"outcome": wire.CANCELED, "error": error, "retry": {"allowed": False, "after": None}}


def _memory_advice(evidence: Evidence) -> str:
    limit = _mebibytes(evidence.memory_limit)
    more = max(64, 2 * evidence.memory_limit // 1024**2)
    had = f"; it had {_mebibytes(evidence.peak)}" if evidence.peak else ""
    return (
        f"out of memory: the kernel killed {evidence.oom_kills} of the task's processes at the limit of "
        f'{limit}{had}. Ask for more: @task(memory="{more}m"), or hold less at once'
    )


def _mebibytes(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB" if count else "its container"


def describe_status(status: int | None) -> str:
    """ "exited with code 3", "was killed by SIGSEGV (a segmentation fault)"."""
    number = _killed_by(status)
    if number:
        try:
            name = signal.Signals(number).name
            meaning = _MEANINGS.get(signal.Signals(number))
        except ValueError:
            name, meaning = f"signal {number}", None
        return f"was killed by {name}" + (f" ({meaning})" if meaning else "")
    if status is not None and os.WIFEXITED(status):
        return f"exited with code {os.WEXITSTATUS(status)}"
    return "ended"


def exit_code(status: int | None) -> int | None:
    """As a shell has it: 128 + the signal's number where one killed the process."""
    number = _killed_by(status)
    if number:
        return 128 + number
    return os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None


def _killed_by(status: int | None) -> int:
    return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0


def clean_error(error: Any) -> dict[str, Any]:
    """An error from a run's process, which is not to be trusted: the right shape, and bounded.

    Only `exception` and `rejected` are for the process to say; the other reasons have consequences.
    """
    given = error if isinstance(error, dict) else {}
    reason = wire.REASON_REJECTED if given.get("reason") == wire.REASON_REJECTED else wire.REASON_EXCEPTION
    traceback = given.get("traceback")
    return wire.error_body(
        str(given.get("type") or "Error")[:256],
        str(given.get("message") or "")[:MAX_MESSAGE],
        reason=reason,
        traceback=traceback[:MAX_TRACEBACK] if isinstance(traceback, str) else None,
    )


def clean_keys(keys: Any) -> list[str]:
    """Those of the keys that can be keys, as many as one attempt may wait for."""
    given = keys if isinstance(keys, list) else []
    found = [key for key in given if isinstance(key, str) and 1 <= len(key) <= wire.MAX_KEY]
    return found[: wire.MAX_WAITS]


def clean_retry(retry: Any) -> dict[str, Any]:
    """`{"allowed", "after"}` in the right shape; `after` in seconds, at most 30 days."""
    given = retry if isinstance(retry, dict) else {}
    after = given.get("after")
    valid = isinstance(after, (int, float)) and not isinstance(after, bool) and 0 <= after <= 30 * 86400
    return {"allowed": given.get("allowed") is not False, "after": float(after) if valid else None}  # type: ignore[arg-type]
