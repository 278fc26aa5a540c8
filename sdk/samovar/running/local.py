"""`task.local()`: a run in this process, for unit tests."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from samovar.declare.registry import Declared, registry
from samovar.errors import OptionError, WaitTimeout
from samovar.payloads import codec
from samovar.payloads.binding import bind
from samovar.running.run import CurrentRun, enter_local_run, leave_local_run
from samovar.values import tracebacks
from samovar.values.file import File


class MemoryStore:
    """Checkpoints of a run outside of a container: kept as long as the object lives.

    `waits` says what waits give, by key: `{"wait.event#1": {"order_id": "7"}, "approval": True}`; `WaitTimeout`
    makes one raise that. Sleeps are skipped unless `sleep`. Child runs run here too, when they are triggered.
    """

    def __init__(self, waits: dict[str, Any] | None = None, *, sleep: bool = False) -> None:
        self.waits = dict(waits or {})
        self.sleep = sleep
        #: What the run has asked for so far, by key: `{kind, name, answer}`.
        self.asked: dict[str, dict[str, Any]] = {}
        self.checkpoints: dict[str, Any] = {}
        self.progress: dict[str, Any] | None = None
        self.metadata: dict[str, Any] = {}
        #: What `samovar.artifact` has kept, by name.
        self.artifacts: dict[str, bytes] = {}

    def get(self, key: str) -> tuple[bool, Any]:
        return key in self.checkpoints, self.checkpoints.get(key)

    def put(self, key: str, value: Any, took_ms: float | None = None) -> Any:
        return self.checkpoints.setdefault(key, value)

    def report(self, progress: dict[str, Any] | None, metadata: dict[str, Any] | None) -> None:
        self.progress = progress or self.progress
        self.metadata.update(metadata or {})

    def extend(self, seconds: float) -> None:
        return None

    def known_wait(self, key: str) -> dict[str, Any] | None:
        return self.asked.get(key)

    def wait(self, kind: str, key: str, name: str | None, spec: dict[str, Any]) -> dict[str, Any]:
        return answer(self, kind, key, name, spec)

    def keep_file(self, name: str, path: str, media_type: str) -> File:
        with open(path, "rb") as file:
            self.artifacts[name] = file.read()
        return File(path, name)

    def wait_result(self, key: str, index: int) -> dict[str, Any]:
        child: dict[str, Any] = self.asked[key]["answer"]["children"][index]
        return child


def run_local(task: Declared, payload: dict[str, Any], store: MemoryStore | None = None) -> Any:
    """What `task` returns for `payload` (values as Python has them), with checkpoints in `store`."""
    store = store or MemoryStore()
    encoded = {name: codec.plain(value, name) for name, value in payload.items()}
    bound = bind(task, encoded)
    run = CurrentRun(
        store,
        id=f"local-{uuid.uuid4().hex[:12]}",
        attempt=1,
        task=task.id,
        project="local",
        version="local",
        trace_id=uuid.uuid4().hex,
        replayed=frozenset(store.checkpoints),
    )
    if task.is_async:
        coroutine = _run_async(run, task.function(*bound.args, **bound.kwargs))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(coroutine)
        return coroutine
    token = enter_local_run(run)
    try:
        result = task.function(*bound.args, **bound.kwargs)
    finally:
        leave_local_run(token)
    codec.plain(result)
    return result


async def _run_async(run: CurrentRun, coroutine: Any) -> Any:
    token = enter_local_run(run)
    try:
        result = await coroutine
    finally:
        leave_local_run(token)
    codec.plain(result)
    return result


def answer(store: MemoryStore, kind: str, key: str, name: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a wait in `local()`, where nobody else is. Raises OptionError where a test has to say it."""
    if kind in ("sleep", "until"):
        if store.sleep:
            time.sleep(spec["seconds"] if kind == "sleep" else max(0.0, spec["at"] - time.time()))
        given: dict[str, Any] = {"state": "done"}
    elif kind in ("event", "token"):
        given = _given(store, kind, key, name)
        if given["state"] == "pending":
            return given
    elif "run" in spec:
        answers = [entry["answer"] or {} for entry in store.asked.values()]
        found = [child for told in answers for child in told.get("children", ()) if child["run"] == spec["run"]]
        given = {"state": "done", "runs": [spec["run"]], "children": found[:1]}
    else:
        given = _children(kind, name, spec)
    store.asked[key] = {"kind": kind, "name": name, "answer": given}
    return given


def _given(store: MemoryStore, kind: str, key: str, name: str | None) -> dict[str, Any]:
    token = {"id": f"tok_local_{key}", "url": f"http://localhost/tokens/tok_local_{key}"} if kind == "token" else {}
    if key in store.waits:
        value = store.waits[key]
        late = isinstance(value, WaitTimeout) or value is WaitTimeout
        return {
            "state": "timed_out" if late else "done",
            "value": None if late else codec.plain(value, key),
            **token,
        }
    entry = store.asked.setdefault(key, {"kind": kind, "name": name, "answer": None})
    if kind == "token" and not entry.get("made"):
        entry["made"] = True
        return {"state": "pending", **token}
    what = f"wait.event({name!r})" if kind == "event" else "the result of wait.token()"
    raise OptionError(
        f"{what} in local(): nobody is there to send it. Say what it gives by its key: "
        f"task.local_with(MemoryStore(waits={{{key!r}: ...}}), ...), or WaitTimeout for none in time"
    )


def _children(kind: str, name: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    """Runs what would be child runs, one after the other."""

    found = registry.get(str(name))
    if not found:
        raise OptionError(f"task {name!r} in local(): it is not defined in this process")
    children = []
    for item in spec["items"] if kind.startswith("batch") else [spec]:
        child: dict[str, Any] = {"run": f"local-{uuid.uuid4().hex[:12]}", "status": "completed", "error": None}
        try:
            result = run_local(found[0], item["payload"])
            child["result"] = codec.plain(result)
        except Exception as error:
            text = tracebacks.format_exception(error)
            body = {
                "type": type(error).__qualname__,
                "message": str(error),
                "traceback": text,
                "reason": "exception",
            }
            child.update(status="failed", error=body)
        children.append(child)
    return {"state": "done", "runs": [child["run"] for child in children], "children": children}
