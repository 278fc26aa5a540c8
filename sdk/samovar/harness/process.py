"""The process of one run: forked from the zygote, runs one task once, reports, and exits.

After its last word, what wants to be done at the end of a process has a little time (see ending.py). SIGTERM (a
cancel, a timeout) raises `Canceled` in the main thread, so that `finally` blocks run in the grace time.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import resource
import signal
import time
from collections.abc import Sequence
from typing import Any, Callable, NoReturn

from samovar import wire
from samovar.declare.registry import registry
from samovar.environment import generators
from samovar.errors import Canceled, CheckpointError, InvalidPayload, SecretMissing, Suspend
from samovar.harness import ending, kernel, output, records
from samovar.harness.logs import cut
from samovar.harness.store import WireStore
from samovar.harness.transfers import Desk
from samovar.payloads import codec
from samovar.payloads.binding import bind
from samovar.running import secrets
from samovar.running.run import CurrentRun, enter_process_run, find_run
from samovar.values.file import fetch_with

_store: WireStore | None = None
_terminated = False
#: Whether its random numbers are other than those of another fork.
_seeded = False


def main(
    descriptors: Sequence[int],
    load: Callable[[], None] | None = None,
    notice: str | None = None,
) -> NoReturn:
    """Become the run's process, run the task that process 1 names, and exit.

    `descriptors`: the socket to process 1, stdout, stderr. `load` imports the project, in a process that is no
    fork; `notice` is a line for the log.
    """
    become(forked=load is None)
    if load is not None:
        os.set_inheritable(descriptors[0], False)
    store = attach(descriptors)
    last_word = run(store, load, notice)
    if not store.owned:
        os._exit(0 if last_word["type"] == wire.RESULT else 1)  # a fork of the task that ran on to here
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    try:
        if not ending.is_due():
            store.send(last_word, ended())
            os._exit(0)
        store.send(last_word)
        ending.end(say)
        store.send(ended())
    except BaseException:  # process 1 is gone, or the end itself failed: the last word has been said, or can't be
        os._exit(1)
    os._exit(0)


def become(*, forked: bool) -> None:
    """What a process is made that runs tasks; `forked`: from the zygote."""
    if forked:
        ending.forget_imports()
    os.setsid()
    kernel.die_with_parent(signal.SIGKILL)
    kernel.set_dumpable(True)  # /proc belongs to root in a process that is not
    if not forked:  # a fork is what the process it comes from had made itself
        kernel.OomKiller().offer()


def attach(descriptors: Sequence[int]) -> WireStore:
    """Takes the descriptors of a run: from now on this process is that run's."""
    global _store
    connection, out, err = descriptors
    for source, target in ((out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    # the classes of `socket` and `signal` ask and convert what is known here, which each run would pay for
    store = _store = WireStore(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, connection))
    output.attach(store)
    records.attach(store)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.signal(_signal.SIGTERM, _on_terminate)
    return store


def run(store: WireStore, load: Callable[[], None] | None, notice: str | None) -> wire.Message:
    """The last word of the run that process 1 names: a result, an error, or what it waits for."""
    task: Any = None
    suspended = False
    try:
        assignment = store.receive()
        if notice:
            say(notice, "info")
        _prepare(assignment, store, load)
        task = _find_task(assignment["run"]["task"])
        last_word = {"type": wire.RESULT, "value": _execute(task, assignment, store)}
    except BaseException as error:
        last_word = _describe(error, task)
        suspended = isinstance(error, Suspend)
    return _suspended(last_word, suspended)


def ended() -> wire.Message:
    """Process 1 need not wait for the exit to pass the end on: nothing comes after this."""
    return {"type": wire.ENDED, "peak": peak()}


def peak() -> int:
    """The most memory that this process, or one that it has waited for, has had so far, in bytes."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def was_terminated() -> bool:
    """Whether this process has been asked to end."""
    return _terminated


def _prepare(assignment: wire.Message, store: WireStore, load: Callable[[], None] | None) -> None:
    """What must differ from run to run: variables, random numbers."""
    global _seeded
    if environment := assignment.get("environment"):
        os.environ.update(environment)
    desk = Desk(str(assignment.get("run_socket")), str(assignment.get("ticket")))
    store.desk = desk
    fetch_with(desk.fetch)
    _take_secrets(assignment.get("secrets") or [], desk)
    if load is not None:
        load()
    elif not _seeded:
        _seeded = True
        generators.reseed()


def _take_secrets(asked: Sequence[str], desk: Desk) -> None:
    """The task's secrets, where it names some, into this process and no other: not even process 1 sees them."""
    if not asked:
        secrets.enter({})
        return
    answer = desk.ask({"ask": "secrets"})
    if answer.get("ok"):
        secrets.enter(answer["secrets"])
        return
    error = answer.get("error") or {}
    if error.get("code") in ("secrets_missing", "too_large"):
        raise SecretMissing(error["message"])
    raise CheckpointError(f"the task's secrets: {error.get('message')}")


def say(text: str, level: str = "warning") -> None:
    """A line of the run's log that is Samovar's own."""
    if _store is not None:
        line = {"at": time.time(), "level": level, "logger": "samovar", "message": cut(text)}
        _store.send({"type": wire.LOG, "lines": [line]})


def _find_task(id: str) -> Any:
    if id not in registry:
        known = ", ".join(sorted(registry)) or "none"
        raise InvalidPayload(id, [{"path": "task", "message": f"this version has no such task; it has {known}"}])
    return registry[id][0]


def _execute(task: Any, assignment: wire.Message, store: WireStore) -> Any:
    """The task's result as plain JSON."""
    run = assignment["run"]
    store.preload(assignment.get("checkpoints") or [], bool(assignment.get("checkpoints_complete")))
    store.preload_waits(assignment.get("waits") or [])
    enter_process_run(
        CurrentRun(
            store,
            id=run["id"],
            attempt=run["attempt"],
            task=run["task"],
            project=run["project"],
            version=run["version"],
            tags=tuple(run.get("tags") or ()),
            trace_id=run.get("trace_id") or "",
            replayed=store.keys,
        )
    )
    bound = bind(task, assignment.get("payload"))
    result = task.function(*bound.args, **bound.kwargs)
    if task.is_async:
        import asyncio

        result = asyncio.run(_cancellable(result))
    return codec.plain(result)


def _suspended(last_word: wire.Message, by_suspend: bool) -> wire.Message:
    """The last word of a run that has stopped at waits, whatever its code made of that; else the one given."""
    run = find_run()
    keys = run.suspension.keys if run is not None else []
    if not keys:
        return last_word
    if not by_suspend:
        error = last_word.get("error") or {}
        import logging

        ending = f"{error.get('type')}: {error.get('message')}" if error else "a result"
        logging.getLogger("samovar").warning(
            "the task caught Suspend, which ends it while it waits, and went on to %s; that is not kept, and the "
            "task is called again when the wait is over. Let Suspend through: catch Exception, not BaseException",
            ending,
        )
    return {"type": wire.SUSPEND, "waits": keys}


async def _cancellable(coroutine: Any) -> Any:
    """Have SIGTERM cancel the task where it awaits, as asyncio does; where it computes, raise there."""
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop_files = (os.sep + "asyncio" + os.sep, os.sep + "selectors.py")

    def on_terminate(number: int, frame: Any) -> None:
        global _terminated
        _terminated = True
        if frame is not None and any(part in frame.f_code.co_filename for part in loop_files):
            loop.call_soon_threadsafe(task.cancel)
        else:
            _on_terminate(number, frame)

    signal.signal(signal.SIGTERM, on_terminate)
    try:
        return await coroutine
    finally:
        signal.signal(signal.SIGTERM, _on_terminate)


def _on_terminate(number: int, frame: Any) -> None:
    global _terminated
    _terminated = True
    if _store is None or not _store.owned:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    elif not _store.defer_termination():
        raise Canceled("the run is canceled or has timed out")


def _describe(error: BaseException, task: Any) -> wire.Message:
    """An `error` message: what happened, where, and whether trying again may help."""
    from samovar.declare.retry import verdict
    from samovar.environment.modules import CannotIndex
    from samovar.values import tracebacks
    from samovar.values.hints import with_hint

    rejected = isinstance(error, (InvalidPayload, SecretMissing))
    reason = wire.REASON_REJECTED if rejected else wire.REASON_EXCEPTION
    message = with_hint(error)
    if isinstance(error, SystemExit):
        message = (
            f"the task called sys.exit({'' if error.code is None else repr(error.code)}) before it returned; "
            "return a value to complete, or raise samovar.Abort to fail without a retry"
        )
    if isinstance(error, CannotIndex):  # in an interpreter of its own, which imports the project itself
        text = str(error)
        body = wire.error_body("ImportError", text.partition("\n\n")[0], traceback=text)
        return {"type": wire.ERROR, "error": body, "retry": {"allowed": False, "after": None}}
    body = wire.error_body(
        type(error).__qualname__, message, reason=reason, traceback=tracebacks.format_exception(error)
    )
    return {"type": wire.ERROR, "error": body, "retry": verdict(error, getattr(task, "retry", None))}
