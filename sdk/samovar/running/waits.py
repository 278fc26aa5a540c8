"""`wait`: durable pauses that hold no container, known in a run like checkpoints.

    wait.sleep("2h")
    paid = wait.event("order.paid", where={"order_id": order_id}, timeout="7d")   # the event's payload
    approval = wait.token(timeout="7d")
    send_mail(approval.url)
    answer = approval.result()                       # what the URL was called with

In an `async def` task each of them is awaited: `await wait.sleep("2h")`, `approval = await wait.token()`,
`await approval.result()`. A wait is known by its `key=`, else by its order among calls of its kind. The function
runs again from the top after a wait, and every checkpoint and wait it passes gives what it gave before.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Callable

from samovar.errors import NotInRun, OptionError, WaitTimeout
from samovar.payloads.codec import plain
from samovar.running.keys import check_key, describe, mixed
from samovar.running.run import CurrentRun, find_run
from samovar.values.units import parse_duration

if TYPE_CHECKING:
    from datetime import datetime

#: A sleep that has no more seconds left than this is slept in place.
IN_PLACE = 5.0
_LONGEST = 366 * 86400.0


class WaitFunctions:
    """The type of `wait`."""

    def sleep(self, duration: float | str, *, key: str | None = None) -> Any:
        """Pause for `duration`: seconds, or text such as "90s", "2h", "7d"."""
        asked = Asked("sleep", key, "wait.sleep", None, {"seconds": _seconds("sleep", "duration", duration)})
        return asked.then(lambda answer: None)

    def until(self, moment: datetime, *, key: str | None = None) -> Any:
        """Pause until a time, which has to say its zone: `datetime.now(timezone.utc) + timedelta(hours=2)`."""
        from datetime import datetime  # which is there, as there is one

        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise OptionError(f"wait.until({moment!r}): give a datetime with a zone, such as tzinfo=timezone.utc")
        return Asked("until", key, "wait.until", None, {"at": moment.timestamp()}).then(lambda answer: None)

    def event(
        self,
        name: str,
        *,
        where: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        key: str | None = None,
    ) -> Any:
        """Wait for an event of this name that fits `where`; its payload.

        One that came since the run was triggered counts too, unless an earlier wait of the run has taken it.
        Raises WaitTimeout after `timeout`; without one it waits for as long as it takes.
        """
        if not isinstance(name, str) or not name:
            raise OptionError(f"wait.event({name!r}): give the event's name")
        spec = {"where": None if where is None else plain(where, "where"), "timeout": _timeout("event", timeout)}
        asked = Asked("event", key, "wait.event", name, spec)
        return asked.then(lambda answer: _value(answer, f"the event {name!r} did not come within {timeout!r}"))

    def token(self, *, timeout: float | str | None = None, key: str | None = None) -> Any:
        """A token with `.id` and `.url`: whoever sends a POST to the URL ends the wait of `.result()`, once.

        The body of that request, as JSON, is the result. `timeout` counts from here.
        """
        asked = Asked("token", key, "wait.token", None, {"timeout": _timeout("token", timeout)})
        return asked.at_once(lambda answer: Token(asked, answer, timeout))


wait = WaitFunctions()


class Token:
    """A wait that somebody completes from outside. `id`, `url`."""

    def __init__(self, asked: Asked, answer: dict[str, Any], timeout: float | str | None) -> None:
        self._asked = asked
        self._answer = answer
        self._timeout = timeout
        self.id = str(answer.get("id") or "")
        self.url = str(answer.get("url") or "")

    def __repr__(self) -> str:
        return f"<token {self._asked.key!r}>"  # without the id: whoever reads a log could complete it

    def result(self) -> Any:
        """What the token was completed with, waited for. Raises WaitTimeout."""
        late = f"the token {self._asked.key!r} was not completed within {self._timeout!r}"
        return self._asked.then(lambda answer: _value(answer, late))


class Asked:
    """One wait as the code asks for it. The key is taken here, when the call is made."""

    def __init__(self, kind: str, key: str | None, word: str, name: str | None, spec: dict[str, Any]) -> None:
        found = find_run()
        if found is None:
            raise NotInRun(f"{word}: there is no run here to wait in: it works inside a task")
        self.run: CurrentRun = found
        if key is None:
            key = f"{word}#{found.count_call(word)}"
        check_key(key)
        self.kind, self.key, self.name, self.spec = kind, key, name, spec

    def at_once(self, use: Callable[[dict[str, Any]], Any]) -> Any:
        """`use(answer)` of the stored wait, over or not; an awaitable of it where an event loop runs."""
        if not _in_loop():
            return use(self._ask())

        async def later() -> Any:
            return use(await self._ask_async())

        return later()

    def then(self, use: Callable[[dict[str, Any]], Any]) -> Any:
        """`use(answer)` when the wait is over; an awaitable of it where an event loop runs. Raises Suspend."""
        return self._then_async(use) if _in_loop() else self._then(use)

    def _then(self, use: Callable[[dict[str, Any]], Any]) -> Any:
        while True:
            answer = self._ask()
            if answer["state"] != "pending":
                return use(answer)
            left = self._in_place(answer)
            if left is None:
                raise self.run.suspension.stop(self.key)
            time.sleep(left)

    async def _then_async(self, use: Callable[[dict[str, Any]], Any]) -> Any:
        import asyncio

        while True:
            answer = await self._ask_async()
            if answer["state"] != "pending":
                return use(answer)
            left = self._in_place(answer)
            if left is None:
                await self.run.suspension.stand(self.key)
            else:
                await asyncio.sleep(left)

    def _in_place(self, answer: dict[str, Any]) -> float | None:
        """Seconds of a sleep that is not worth giving the container back for."""
        left = answer.get("left")
        if self.kind not in ("sleep", "until") or left is None or left > IN_PLACE:
            return None
        return float(left) + 0.001

    def _ask(self) -> dict[str, Any]:
        self.run.suspension.check()
        known = self.run.store.known_wait(self.key)
        if known is not None:
            if (known["kind"], known["name"]) != (self.kind, self.name) or not self._same_size(known.get("answer")):
                stored, asked = describe(known["kind"], known["name"]), describe(self.kind, self.name)
                raise mixed(self.key, stored, asked)
            if known.get("answer") is not None:
                self.run.pass_key(self.key)
                return dict(known["answer"])
        answer = self.run.store.wait(self.kind, self.key, self.name, self.spec)
        if answer["state"] != "pending":
            self.run.pass_key(self.key)
        else:
            self.run.catch_up()
        return answer

    def _same_size(self, answer: dict[str, Any] | None) -> bool:
        runs = (answer or {}).get("runs")
        return runs is None or "items" not in self.spec or len(runs) == len(self.spec["items"])

    async def _ask_async(self) -> dict[str, Any]:
        # asked in a thread, as checkpoints are; but Suspend concerns this thread
        import asyncio

        self.run.suspension.check()
        return await asyncio.to_thread(self._ask)


def _value(answer: dict[str, Any], late: str) -> Any:
    if answer["state"] == "timed_out":
        raise WaitTimeout(late)
    return answer.get("value")


def _in_loop() -> bool:
    """Whether the caller is in an event loop, and so has to await. asyncio is not loaded to find out."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    return asyncio._get_running_loop() is not None


def _seconds(word: str, name: str, value: object) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise OptionError(f"wait.{word}({name}={value!r}): {error}") from None
    if seconds > _LONGEST:
        raise OptionError(f"wait.{word}({name}={value!r}): at most {_LONGEST / 86400:g} days")
    return seconds


def _timeout(word: str, value: object) -> float | None:
    return None if value is None else _seconds(word, "timeout", value)
