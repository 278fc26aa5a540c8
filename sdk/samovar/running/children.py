"""Child runs: what `task.trigger()` and its kin do inside a run.

They are waits (see samovar/waits.py), so each is made once, however often the run comes to the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samovar.calling.items import Items, batch_body, trigger_body
from samovar.errors import OptionError, RunFailed
from samovar.running.waits import Asked

if TYPE_CHECKING:
    from samovar.declare.registry import Declared
    from samovar.running.run import Store


class ChildRun:
    """A run that this one has triggered. `id`; `task`."""

    def __init__(self, id: str, task: str, key: str) -> None:
        self.id = id
        self.task = task
        self._key = key

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.task}>"

    def result(self) -> Any:
        """Its result, waited for without a container; awaited in an `async def` task. Raises RunFailed."""
        asked = Asked("run", f"{self._key}.result", "result", self.task, {"run": self.id})
        return asked.then(lambda answer: _results(asked, answer)[0].result())


class ChildResult:
    """How a child of a batch has ended: `ok`, `result()`, `error`; `id` of its run, `status`."""

    def __init__(self, store: Store, key: str, index: int, told: dict[str, Any]) -> None:
        self._store = store
        self._place = (key, index)
        self._told = told
        self.id = str(told["run"])
        self.status = str(told["status"])

    def __repr__(self) -> str:
        return f"<result of {self.id}: {self.status}>"

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self.status == "completed"

    def result(self) -> Any:
        """Its result. Raises RunFailed where it ended otherwise."""
        if not self.ok:
            raise RunFailed(self.id, self.status, self._whole().get("error"))
        return self._whole().get("result")

    @property
    def error(self) -> RunFailed | None:
        """What `result()` would raise; None where it completed."""
        return None if self.ok else RunFailed(self.id, self.status, self._whole().get("error"))

    def _whole(self) -> dict[str, Any]:
        if self._told.get("omitted"):
            # it was too large to be sent unasked, and is not kept here for the same reason
            return self._store.wait_result(*self._place)
        return self._told


def trigger(task: Declared, payload: dict[str, Any]) -> Any:
    """A ChildRun."""
    asked = _ask("trigger", "task.trigger", task, payload)
    return asked.at_once(lambda answer: ChildRun(answer["runs"][0], task.id, asked.key))


def trigger_and_wait(task: Declared, payload: dict[str, Any]) -> Any:
    """The child's result."""
    asked = _ask("run", "task.trigger_and_wait", task, payload)
    return asked.then(lambda answer: _results(asked, answer)[0].result())


def batch_trigger(task: Declared, items: Items) -> Any:
    """ChildRuns, in the order of the items."""
    asked = _ask_batch("batch_trigger", "task.batch_trigger", task, items)
    return asked.at_once(
        lambda answer: [ChildRun(id, task.id, f"{asked.key}[{n}]") for n, id in enumerate(answer["runs"])]
    )


def batch_trigger_and_wait(task: Declared, items: Items) -> Any:
    """ChildResults, in the order of the items."""
    asked = _ask_batch("batch", "task.batch_trigger_and_wait", task, items)
    return asked.then(lambda answer: _results(asked, answer))


def _results(asked: Asked, answer: dict[str, Any]) -> list[ChildResult]:
    store = asked.run.store
    return [ChildResult(store, asked.key, n, told) for n, told in enumerate(answer["children"])]


def _ask(kind: str, word: str, task: Declared, payload: dict[str, Any]) -> Asked:
    key, detached, options = _options(task)
    body = trigger_body(payload, options)
    spec = {"payload": body.pop("payload"), "options": body, "detached": detached}
    return Asked(kind, key, word, task.id, spec)


def _ask_batch(kind: str, word: str, task: Declared, items: Items) -> Asked:
    key, detached, options = _options(task)
    if "idempotency_key" in options:
        raise OptionError("idempotency_key: a batch in a run is made once in any case; give it to single items")
    body = batch_body(items, None, options)
    return Asked(kind, key, word, task.id, {"items": body["items"], "detached": detached})


def _options(task: Declared) -> tuple[str | None, bool, dict[str, Any]]:
    options = dict(task.trigger_options)
    return options.pop("key", None), bool(options.pop("detached", False)), options
