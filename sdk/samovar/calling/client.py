"""`Client`: trigger runs and see what became of them, from any Python program outside of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samovar.calling import files
from samovar.calling.items import Debounce, Items, batch_body, trigger_body
from samovar.calling.transport import PATIENCE, PAUSE, Transport, find_credentials, segment
from samovar.errors import ApiError, CoordinatorUnreachable, FileMissing, OptionError, RunFailed, WaitTimeout
from samovar.payloads.codec import plain
from samovar.values.file import File
from samovar.values.units import parse_duration

if TYPE_CHECKING:
    from datetime import datetime

#: Statuses that a run never leaves.
FINAL = frozenset({"completed", "failed", "canceled", "timed_out", "expired"})
_LONGEST_POLL = 25.0


class RunHandle:
    """A run as it was when last asked about.

    `id`, `status`; `data` is all that the coordinator told (see docs/reference/sdk.md).
    """

    def __init__(self, client: Client, data: dict[str, Any]) -> None:
        self._client = client
        self.data = data

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.data.get('task')}: {self.status}>"

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def status(self) -> str:
        return str(self.data["status"])

    @property
    def is_final(self) -> bool:
        """Whether the run is over."""
        return self.status in FINAL

    def refresh(self) -> RunHandle:
        """Ask again; this handle."""
        self.data = self._client.transport.get(f"/runs/{segment(self.id)}")
        return self

    def wait(self, timeout: float | str | None = None) -> RunHandle:
        """Wait until the run is over; this handle. Raises WaitTimeout after `timeout` (seconds or "5m").

        A coordinator that is restarted meanwhile, or its database, is waited for, half a minute at most.
        """
        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout)
        answered = time.monotonic()
        while not self.is_final:
            left = _LONGEST_POLL if deadline is None else min(_LONGEST_POLL, deadline - time.monotonic())
            if left <= 0:
                raise WaitTimeout(f"run {self.id} is still {self.status} after {timeout!r}; it goes on")
            path = f"/runs/{segment(self.id)}/wait"
            try:
                self.data = self._client.transport.get(path, {"timeout": round(left, 3)}, timeout=left + 15)
                answered = time.monotonic()
            except (CoordinatorUnreachable, ApiError) as error:
                # 503: its database is away
                if isinstance(error, ApiError) and error.status != 503:
                    raise
                if time.monotonic() - answered > left + PATIENCE:
                    raise
                time.sleep(PAUSE)
        return self

    def result(self, timeout: float | str | None = None) -> Any:
        """The run's result, waited for. Raises RunFailed if it ended otherwise, WaitTimeout."""
        self.wait(timeout)
        if self.status != "completed":
            raise RunFailed(self.id, self.status, self.data.get("error"))
        return self.data.get("result")

    def logs(self, follow: bool = False) -> Iterator[dict[str, Any]]:
        """The run's lines, `{at, level, stream, logger, message, attempt}`; with `follow` until it is over.

        A line that has not ended has `partial` set; with `follow` only whole lines are given.
        """
        if follow:
            for name, _, data in self._client.transport.events(f"/runs/{segment(self.id)}/stream"):
                if name == "log" and not data.get("partial"):
                    yield data
            self.refresh()  # the stream tells the status, but not the result
            return
        after = None
        while True:
            page = self._client.transport.get(f"/runs/{segment(self.id)}/logs", {"after": after})
            yield from page["items"]
            after = page.get("next")
            if not after:
                return

    def checkpoints(self) -> list[dict[str, Any]]:
        """The run's checkpoints, `{key, value, attempt, created_at, size_bytes}`."""
        items: list[dict[str, Any]] = []
        after = None
        while True:
            page = self._client.transport.get(f"/runs/{segment(self.id)}/checkpoints", {"after": after})
            items += page["items"]
            after = page.get("next")
            if not after:
                return items

    def artifacts(self) -> list[Artifact]:
        """The files that the run keeps, by name."""
        items: list[Artifact] = []
        cursor = None
        while True:
            page = self._client.transport.get(f"/runs/{segment(self.id)}/files", {"cursor": cursor})
            items += [Artifact(self._client, data) for data in page["items"]]
            cursor = page.get("next")
            if not cursor:
                return items

    def artifact(self, name: str) -> Artifact:
        """The file that the run keeps under `name`. Raises FileMissing, naming those that there are."""
        found = self.artifacts()
        for one in found:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in found[:10]) or "none"
        raise FileMissing(f"the run {self.id} keeps no file {name!r}; it keeps: {names}")

    def attempts(self) -> list[dict[str, Any]]:
        """Its executions, oldest first: `{number, status, start, runner, usage, egress, error, …}`.

        `egress` lists what each has reached: `{host, port, connections, sent, received, seconds, refused, reason}`,
        with bytes, and seconds that connections were open.
        """
        return list(self._client.transport.get(f"/runs/{segment(self.id)}/attempts")["items"])

    def bump(self) -> RunHandle:
        """Put the run, which is queued, at the front of its queue; this handle. Raises ApiError (409)."""
        self.data = self._client.transport.post(f"/runs/{segment(self.id)}/bump") or self.data
        return self

    def release_key(self) -> RunHandle:
        """Free the run's idempotency key for another run; this handle. Raises ApiError (409 where it has none)."""
        self.data = self._client.transport.post(f"/runs/{segment(self.id)}/release-key") or self.data
        return self

    def cancel(self) -> RunHandle:
        """Ask for the run to be canceled; a running one ends soon after. This handle."""
        self.data = self._client.transport.post(f"/runs/{segment(self.id)}/cancel") or self.data
        return self


class Artifact:
    """A file that a run keeps: `name`, `size` in bytes, `sha256`; `data` is all that the coordinator told."""

    def __init__(self, client: Client, data: dict[str, Any]) -> None:
        self._client = client
        self.data = data
        self.name = str(data["name"])
        self.size = int(data["size"])
        self.sha256 = str(data["sha256"])

    def __repr__(self) -> str:
        return f"<Artifact {self.name!r} of run {self.data['run']}, {self.size} bytes>"

    @property
    def file(self) -> File:
        """It as a File, for the payload of another run."""
        return File.stored(str(self.data["id"]), self.name, self.size)

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write it to `path`, or below it where that is a folder; there when it is whole. Its absolute path."""
        target = os.fspath(path)
        if os.path.isdir(target):
            target = files.below(target, self.name)
        return files.save(self._client.transport, self._path, target, self.size, self.sha256)

    def chunks(self) -> Iterator[bytes]:
        """What is in it, a part at a time."""
        return files.stream(self._client.transport, self._path, self.size)

    def read(self) -> bytes:
        """What is in it, as a whole."""
        return b"".join(self.chunks())

    @property
    def _path(self) -> str:
        return files.of_run(str(self.data["run"]), self.name)


class Client:
    """A connection to a coordinator. Threads may share it.

    `url` and `api_key` as given, else SAMOVAR_URL and SAMOVAR_API_KEY, else the local `samovar up`. Its methods
    raise ApiError (refused; NotFound), CoordinatorUnreachable.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self.transport = Transport(*find_credentials(url, api_key))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.transport.url}>"

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self.transport.close()

    def trigger(
        self,
        task: str,
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: float | str | None = None,
        delay: float | str | None = None,
        ttl: float | str | None = None,
        priority: int | None = None,
        concurrency_key: str | None = None,
        tags: Sequence[str] | None = None,
        memory: int | str | None = None,
        version: str | None = None,
        debounce: Debounce | None = None,
    ) -> RunHandle:
        """Trigger `task` (or "project/task"). When this returns, the run is durable.

        `payload` holds its keyword arguments; dates, Decimal, dataclasses and the like are written as JSON.
        `debounce=("key", "5s")`: the run starts when no trigger with this key has come for 5 s, with the last
        one's payload and options. The same `idempotency_key` is the same run, for `idempotency_ttl` if that is
        given; the key of a run that ended without having been started is free again.
        """
        options = {
            "idempotency_key": idempotency_key,
            "idempotency_ttl": idempotency_ttl,
            "delay": delay,
            "ttl": ttl,
            "priority": priority,
            "concurrency_key": concurrency_key,
            "tags": tags,
            "memory": memory,
            "version": version,
            "debounce": debounce,
        }
        return RunHandle(self, self.transport.post(f"/tasks/{segment(task)}/runs", trigger_body(payload, options)))

    def upload(self, path: str | os.PathLike[str], *, name: str | None = None, project: str | None = None) -> File:
        """Send a file, for the payload of runs: `client.trigger("t", {"data": client.upload("t.csv")})`.

        It is sent in parts, gone on with where it broke off, and kept for a week, and as long as a run has it.
        `project`: whose it is; None: any project may use it. Raises OptionError, ApiError, CoordinatorUnreachable.
        """
        try:
            known = files.upload(self.transport, os.fspath(path), name, project)
        except OSError as error:
            if isinstance(error, CoordinatorUnreachable):
                raise
            raise OptionError(f"upload({os.fspath(path)!r}): {error.strerror or error}") from None
        return File.stored(str(known["id"]), str(known["name"]), int(known["size"]), os.path.abspath(path))

    def batch_trigger(
        self,
        task: str,
        items: Items,
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: float | str | None = None,
        **options: Any,
    ) -> list[RunHandle]:
        """Trigger `task` once for each item, all or none, at most 1,000; the handles, in order.

        An item is a payload, or `samovar.Item(payload, **options)`; `options` are those of `trigger` for every
        item that doesn't give its own. The same idempotency key and items give the runs made before. The
        handles have no payload until they are refreshed.
        """
        body = batch_body(items, idempotency_key, options, idempotency_ttl)
        answer = self.transport.post(f"/tasks/{segment(task)}/runs/batch", body)
        return [RunHandle(self, data) for data in answer["items"]]

    def send_event(
        self, name: str, payload: Any = None, *, id: str | None = None, project: str | None = None
    ) -> dict[str, Any]:
        """Send an event to the tasks that listen to it, of `project` or (None) of every project.

        The same `id` with the same name and payload is one event, however often it is sent. Gives what it caused:
        `{id, name, project, payload, created_at, runs, problems}`; `runs` are `{id, project, task}`, `problems`
        `{project, task, message}` of tasks that listen and could not take it.
        """
        body = {"name": name, "payload": {} if payload is None else plain(payload, "payload")}
        body.update({key: value for key, value in (("id", id), ("project", project)) if value is not None})
        answer: dict[str, Any] = self.transport.post("/events", body)
        return answer

    def create_schedule(
        self,
        task: str,
        cron: str,
        *,
        name: str,
        timezone: str = "UTC",
        catchup: str = "skip",
        payload: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Have a task run by a cron line, beside the schedule that its code may have; the schedule.

        The same one again is the one that is there. Raises ApiError (409 where the name is another schedule's).
        """
        body = {"task": task, "name": name, "cron": cron, "timezone": timezone, "catchup": catchup}
        answer: dict[str, Any] = self.transport.post(
            "/schedules", {**body, "payload": plain(payload or {}, "payload")}
        )
        return answer

    def delete_schedule(self, id: str) -> None:
        """End a schedule that `create_schedule` made; its runs stay."""
        self.transport.delete(f"/schedules/{segment(id)}")

    def complete_token(self, id: str, value: Any = None) -> None:
        """End the wait of the token `id` with `value`. Raises ApiError (409 when repeated, 410 too late)."""
        self.transport.post(f"/tokens/{segment(id)}", plain(value, "value"), root=True)

    def run(self, id: str) -> RunHandle:
        """The run with this id."""
        return RunHandle(self, self.transport.get(f"/runs/{segment(id)}"))

    def runs(
        self,
        *,
        status: Sequence[str] | str | None = None,
        task: str | None = None,
        project: str | None = None,
        parent: str | None = None,
        since: datetime | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Iterator[RunHandle]:
        """Runs, newest first, at most `limit`. `since` is a time, or how long ago: "2h".

        `parent`: those that this run has triggered.
        """
        query: dict[str, Any] = {
            "status": [status] if isinstance(status, str) else status,
            "task": task,
            "project": project,
            "parent": parent,
            "since": since if since is None or isinstance(since, str) else since.isoformat(),
            "tag": list(tags) if tags else None,
            "limit": None if limit is None else min(limit, 500),
        }
        count = 0
        while True:
            page = self.transport.get("/runs", query)
            for data in page["items"]:
                if limit is not None and count >= limit:
                    return
                count += 1
                yield RunHandle(self, data)
            query["cursor"] = page.get("next")
            if not query["cursor"]:
                return


_default: Client | None = None


def default_client() -> Client:
    """The client of `task.trigger()`: made at first use, from the environment."""
    global _default
    if _default is None:
        _default = Client()
    return _default
