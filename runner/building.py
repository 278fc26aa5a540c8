"""Builds: a claimed deployment becomes an image and a task index, or a readable failure."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from samovar.wire import MAX_LOG_BYTES

import images.build as images
from coordinator.wire import Build, BuildDone, BuildFailed, BuildLog, FieldProblem, Problem, TaskLimits
from images.errors import BuildError
from images.settings import ImageSettings
from runner import seccomp
from runner.coordinator_client import CoordinatorClient
from runner.doors import Doors
from runner.errors import CoordinatorAway, CoordinatorRefused, SourceGone
from runner.policy import Policy
from runner.records import Records
from runner.settings import Settings, host_cpus, host_memory
from runner.sidecar_client import SidecarClient

log = structlog.get_logger()

_LOG_PAUSE = 0.2
_RETRY = 0.5


class _BadIndex(Exception):
    """What the project's process gave as its task index can't be one."""


class BuildJob:
    """One build under its lease; the agent extends `lease`. `run` never raises."""

    def __init__(
        self,
        build: Build,
        settings: Settings,
        policy: Policy,
        coordinator: CoordinatorClient,
        records: Records,
        sidecar: SidecarClient,
    ) -> None:
        self.build = build
        self.lease = time.monotonic() + build.lease
        self._settings = settings
        self._policy = policy
        self._coordinator = coordinator
        self._records = records
        self._sidecar = sidecar
        self._lines: list[str] = []
        self._said = 0
        self._dropped = 0
        self._images = ImageSettings(
            seccomp=seccomp.profile(), bases=tuple(policy.images.bases), base_size=policy.images.base_size
        )
        self._abandoned = False

    @property
    def memory(self) -> int:
        """Bytes that the build's containers may take."""
        return self._images.build_memory

    def abandon(self) -> None:
        """The runner goes: nothing is reported, and another runner builds when the lease has run out."""
        self._abandoned = True

    @property
    def id(self) -> str:
        return self.build.deployment

    async def run(self) -> None:
        streaming = asyncio.create_task(self._stream())
        token = self.build.token
        outcome: BuildDone | BuildFailed
        try:
            built = await self._build()
            # before anybody is told: whatever becomes of the deployment, this runner has an image to remove one day
            self._records.save_image(built.image)
            problem = self._refused(built.index)
            if problem is None:
                self._warn(built.index)
            if problem is None:
                outcome = _sendable(BuildDone(token=token, image=built.image, index=built.index))
            else:
                outcome = BuildFailed(token=token, error=problem)
        except _BadIndex as error:
            outcome = BuildFailed(token=token, error=_bad_index(str(error)))
        except BuildError as error:
            outcome = BuildFailed(token=token, error=error.problem)
        except SourceGone as error:
            outcome = BuildFailed(token=token, error=Problem(code="source_gone", message=str(error)))
        except Exception as error:
            log.exception("a build broke", deployment=self.id)
            problem = Problem(code="build_broke", message=f"the build failed inside the runner: {error!r}")
            outcome = BuildFailed(token=token, error=problem)
        if self._dropped:
            self._lines.append(
                f"{self._dropped} more lines were dropped: a build keeps {MAX_LOG_BYTES} bytes of log"
            )
        streaming.cancel()
        await asyncio.wait({streaming})
        await self._report(outcome)

    async def _build(self) -> images.Built:
        with tempfile.TemporaryDirectory(prefix="samovar-build-") as directory:
            path = Path(directory) / "source.tar"
            loop = asyncio.get_running_loop()
            containers = self._settings.containers_directory
            await self._coordinator.build_source(self.id, path)
            build = functools.partial(
                images.build,
                path,
                project=self.build.project,
                version=self.build.version,
                state=self._settings.state,
                log=self._keep,
                settings=self._images,
                way=Doors(self._sidecar, containers, self._policy.builds.hosts, self._keep, loop),
            )
            # a thread of its own: one that hangs, or waits for another build of its project, is out of the few that
            # all of the runner's calls of the engine share
            with ThreadPoolExecutor(1, thread_name_prefix="build") as thread:
                return await loop.run_in_executor(thread, build)

    def _keep(self, line: str) -> None:
        """A line of the log, from the build's thread: a package that prints without end fills nobody's disk."""
        self._said += len(line) + 1
        if self._said <= MAX_LOG_BYTES:
            self._lines.append(line)
        else:
            self._dropped += 1

    def _refused(self, index: dict[str, Any]) -> Problem | None:
        """What this host's policy says against the tasks of a deployment, every task and option named."""
        fields: list[FieldProblem] = []
        for task in index["tasks"]:
            # printed by the project's own process, it may be anything
            if not isinstance(task, dict) or not isinstance(task.get("id"), str) or "options" not in task:
                raise _BadIndex(f"{task!r:.200} is no task with an id and options")
            options = task["options"]
            if isinstance(options, dict) and (problem := self._policy.size(options)) is not None:
                fields.append(FieldProblem(path=f"{task['id']}.machine", message=problem))
                continue
            try:
                limits = TaskLimits.model_validate(options)
            except ValidationError as error:
                fields += [
                    FieldProblem(path=f"{task['id']}.{'.'.join(map(str, e['loc']))}", message=e["msg"])
                    for e in error.errors()
                ]
                continue
            if limits.trust == "untrusted" and options.get("secrets"):
                message = 'a task of trust="untrusted" gets no secrets'
                fields.append(FieldProblem(path=f"{task['id']}.secrets", message=message))
            for found in self._policy.problems(self.build.project, limits, host_memory(), host_cpus()):
                if found.path == "trust" and self._policy.untrusted.elsewhere:
                    continue
                fields.append(FieldProblem(path=f"{task['id']}.{found.path}", message=found.message))
        if not fields:
            return None
        return Problem(code="refused_by_policy", message="this host will not run these tasks", fields=fields)

    def _warn(self, index: dict[str, Any]) -> None:
        """Says of tasks that they will be refused here. Another host may have what they need."""
        tasks = [task["id"] for task in index["tasks"] if task["options"].get("trust") == "untrusted"]
        if tasks and (problem := self._policy.sandbox_problem) is not None:
            self._keep(f"warning: runs of {', '.join(tasks)} fail on this host: {problem}")

    async def _stream(self) -> None:
        """Sends the log lines as they come; the last ones go when the build has ended."""
        try:
            while True:
                await asyncio.sleep(_LOG_PAUSE)
                await self._send_lines()
        finally:
            await self._send_lines()

    async def _send_lines(self) -> None:
        lines, self._lines[:] = list(self._lines), []
        if not lines:
            return
        try:
            await self._coordinator.build_log(self.id, BuildLog(token=self.build.token, lines=lines))
        except CoordinatorAway as error:
            log.warning("build log lines lost", deployment=self.id, problem=str(error))

    async def _report(self, outcome: BuildDone | BuildFailed) -> None:
        while time.monotonic() < self.lease and not self._abandoned:
            try:
                if isinstance(outcome, BuildDone):
                    await self._coordinator.build_done(self.id, outcome)
                else:
                    await self._coordinator.build_failed(self.id, outcome)
                return
            except CoordinatorRefused as error:
                if isinstance(outcome, BuildFailed):
                    log.error("the coordinator refuses a build's end", deployment=self.id, problem=str(error))
                    return
                # said again it would be refused again, and hold the build's place for ever
                outcome = BuildFailed(token=self.build.token, error=_bad_index(str(error)))
            except CoordinatorAway as error:
                log.warning("could not report a build yet", deployment=self.id, problem=str(error))
                await asyncio.sleep(_RETRY)


def _sendable(done: BuildDone) -> BuildDone:
    """`done`, where it can be put on a line at all: half a surrogate pair in a docstring can't."""
    try:
        done.model_dump_json()
    except PydanticSerializationError as error:
        raise _BadIndex(str(error)) from None
    return done


def _bad_index(why: str) -> Problem:
    return Problem(code="bad_index", message=f"the image's task index cannot be used: {why}")
