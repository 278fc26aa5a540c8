"""`samovar dev`: a project that is deployed at each save, and what its runs say."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from samovar.cli import deploy, watching
from samovar.cli.api import Api, Credentials, connected, find_credentials
from samovar.cli.changes import Changes
from samovar.cli.command import Cli
from samovar.cli.data import data_directory
from samovar.cli.errors import CliError, Unreachable
from samovar.cli.output import Output, milliseconds
from samovar.cli.pack import pack, read_config
from samovar.cli.server import docker_get, require_server
from samovar.cli.supervisor import CHILD
from samovar.cli.tailing import Tail
from samovar.cli.up import runner_there

_TICK = 0.1
#: What `samovar up` may take to stop its three processes, and a little more, before it is killed.
_PATIENCE = 90.0
#: Seconds until a coordinator that was away is asked again.
_AWAY = 1.0
_LONGEST_AWAY = 8.0


def dev(
    cli: Cli,
    path: Annotated[Path, typer.Argument(help="The project: a directory with samovar.toml.")] = Path("."),
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="The port of the Samovar that it starts; 0 takes a free one."),
    ] = 7420,
    policy: Annotated[
        Optional[Path],
        typer.Option(help="The policy of the Samovar that it starts, as for `samovar up`."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote also what breaks something for runs under way.")
    ] = False,
) -> None:
    """Deploy a project at each save and show what its runs say, until Ctrl-C; starts Samovar where none answers.

    With --json each event is one JSON document on a line of its own.
    """
    read_config(path)
    terminal = Terminal(cli.output)
    with _stopping() as stop, _coordinator(cli, port, policy, stop) as (credentials, look):
        if not stop.ending.is_set():
            _work(terminal, credentials, path, force, stop.ending, look)
    terminal.tell("stopped", "stopped")


class Terminal:
    """What happens, told in the order it happens: a line for people, or with --json a document on a line."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.Lock()

    def tell(self, event: str, text: str | None = None, style: str | None = None, **fields: Any) -> None:
        """`text` is for people."""
        with self._lock:
            if self._output.as_json:
                sys.stdout.write(json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n")
                sys.stdout.flush()
            elif text is not None:
                self._output.note(text, style)

    def problem(self, error: CliError, text: str) -> None:
        """A deploy that came to nothing, and what is the state now."""
        self.tell("refused", **error.document())
        with self._lock:
            if not self._output.as_json:
                self._output.problem(error.message, error.fields)
                self._output.say(text)

    def build_line(self, line: str) -> None:
        self.tell("build", message=line)
        with self._lock:
            if not self._output.as_json:
                deploy.print_build_line(self._output, line)

    def run(self, run: dict[str, Any], line: dict[str, Any] | None) -> None:
        """A log line of a run; None where its status is news."""
        about = {"run": run["id"], "task": run["task"], "project": run["project"], "version": run["version"]}
        if line is not None:
            self.tell("log", **about, **line)
            with self._lock:
                if not self._output.as_json:
                    watching.print_line(self._output, line, f"{run['task']} {run['id']} | ")
            return
        self.tell("run", **about, status=run["status"], attempts=run["attempts"], error=run["error"])
        with self._lock:
            if not self._output.as_json and run["status"] in watching.FINAL:
                took = milliseconds((run.get("timings") or {}).get("run_ms"))
                self._output.say(f"{run['task']} {run['id']} {run['status']}{f' after {took}' if took else ''}")
                if run["status"] != "completed":
                    watching.print_error(self._output, run)


@dataclass
class _Stop:
    """What Ctrl-C asks for: an end, and asked for again, an end at once."""

    ending: threading.Event = field(default_factory=threading.Event)
    impatient: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _stopping() -> Iterator[_Stop]:
    stop = _Stop()

    def end(number: int, frame: object) -> None:
        (stop.impatient if stop.ending.is_set() and number != signal.SIGHUP else stop.ending).set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _coordinator(
    cli: Cli, port: int, policy: Path | None, stop: _Stop
) -> Iterator[tuple[Credentials, Callable[[], None]]]:
    """The coordinator that answers, else one that is started now and stopped at the end.

    With it comes what looks after it: called now and then, it raises CliError where what was started has ended.
    """
    found = _answering(cli)
    if found is not None:
        yield found, lambda: None
        return
    require_server()
    docker_get("/version")
    data = data_directory(cli.common.data)
    options = ["samovar.cli.main", "--data", str(data), "up", "--port", str(port)]
    if policy is not None:
        options += ["--policy", str(policy)]
    process = subprocess.Popen(
        # SIGHUP where this process is killed, once for each of its threads: it still takes its containers with it
        [
            sys.executable,
            "-P",
            str(CHILD),
            str(os.getpid()),
            str(int(signal.SIGHUP)),
            *options,
        ],
        stdin=subprocess.DEVNULL,
        # that it is ready is said here; its warnings are on stderr
        stdout=subprocess.DEVNULL,
        # Ctrl-C is for this process, which stops it
        start_new_session=True,
    )

    def look() -> None:
        if process.poll() is not None:
            raise CliError(f"`samovar up` has ended (exit code {process.returncode})", code="up_ended")

    try:
        yield _started(data, look, stop), look
    finally:
        _end(process, stop)


def _answering(cli: Cli) -> Credentials | None:
    """Where a coordinator answers; None where a local one is to be started. Raises CliError for one elsewhere."""
    try:
        found = find_credentials(cli.common.url, cli.common.api_key, cli.common.data)
    except Unreachable:
        return None
    with connected(found) as api:
        if api.ready():
            # a key that opens nothing is said before anything else
            api.get("/deployments", limit=1)
            return found
        if found.source in ("the flags", "SAMOVAR_URL and SAMOVAR_API_KEY"):
            api.get("/deployments", limit=1)
    return None


def _started(data: Path, look: Callable[[], None], stop: _Stop) -> Credentials:
    while not stop.ending.wait(_TICK):
        look()
        try:
            found = find_credentials(None, None, data)
        except CliError:
            continue
        with connected(found) as api:
            if api.ready() and runner_there(api):
                return found
    return Credentials("", "", "nothing: it was stopped before it was ready")


def _end(process: subprocess.Popen[bytes], stop: _Stop) -> None:
    """Stop `samovar up`, which stops its parts and leaves no container; at once where Ctrl-C is pressed again."""
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    passed_on = False
    while process.poll() is None:
        if stop.impatient.is_set() and not passed_on:
            process.send_signal(signal.SIGTERM)
            passed_on = True
        if time.monotonic() > deadline:
            process.kill()
        stop.impatient.wait(_TICK) if not passed_on else time.sleep(_TICK)


def _work(
    terminal: Terminal,
    credentials: Credentials,
    path: Path,
    force: bool,
    ending: threading.Event,
    look: Callable[[], None],
) -> None:
    """Deploy and follow, each in a thread of its own: this one stays free for Ctrl-C."""
    project = str(read_config(path)["project"]["name"])
    terminal.tell("ready", f"Samovar is at {credentials.url}; Ctrl-C ends", url=credentials.url, project=project)
    failures: list[BaseException] = []

    def guarded(work: Callable[[Api], None]) -> None:
        try:
            with connected(credentials) as api:
                work(api)
        except Exception as error:
            failures.append(error)

    threads = [
        threading.Thread(target=guarded, args=(work,), name=name, daemon=True)
        for name, work in {
            "deploys": lambda api: Deploys(api, terminal, path, force=force, ending=ending).run(),
            "logs": lambda api: Tail(api, project, terminal.run).run(ending),
        }.items()
    ]
    for thread in threads:
        thread.start()
    while not ending.wait(_TICK):
        look()
        if failures:
            raise failures[0]
    for thread in threads:
        # one that is in the middle of a long poll is left behind
        thread.join(1.0)


class Deploys:
    """The deploys of one project, one after the other; for one thread."""

    def __init__(self, api: Api, terminal: Terminal, path: Path, *, force: bool, ending: threading.Event) -> None:
        self._api = api
        self._terminal = terminal
        self._path = path
        self._force = force
        self._ending = ending
        self._changes = Changes(path)
        self._deployed: str | None = None
        self._version: str | None = None

    def run(self) -> None:
        """Deploy, and again after each change, until the end."""
        while not self._ending.is_set():
            # looked at before it is packed: what is saved during a deploy differs from this, and is deployed next
            seen = self._changes.look()
            if not self._try():
                self._away()
                continue
            names = self._changes.wait(seen, self._ending)
            if names:
                shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
                self._terminal.tell("changed", f"changed: {shown}", "dim", files=names)

    def _away(self) -> None:
        """Wait until a coordinator answers again, or the end."""
        pause = _AWAY
        while not self._ending.wait(pause) and not self._api.ready():
            pause = min(pause * 2, _LONGEST_AWAY)

    def _try(self) -> bool:
        """Deploy what is there. False where that is to be tried again by itself: no coordinator answered."""
        try:
            self._deploy()
        except Unreachable as error:
            if not self._ending.is_set():
                self._terminal.problem(error, "it is tried again when one does")
            return False
        except CliError as error:
            self._refused(error)
        except OSError as error:
            # a file that went while it was packed
            self._refused(CliError(f"the project cannot be packed: {error}", code="unreadable"))
        return True

    def _refused(self, error: CliError) -> None:
        if self._ending.is_set():
            return
        stays = f"{self._version} stays" if self._version else "nothing of it is deployed yet"
        self._terminal.problem(error, f"not deployed: {stays}. The next save is tried")

    def _deploy(self) -> None:
        packed = pack(self._path)
        digest = hashlib.sha256(packed.data).hexdigest()
        if digest == self._deployed:
            self._terminal.tell("unchanged", f"as in {self._version}: nothing to deploy", "dim")
            return
        began = time.monotonic()
        self._terminal.tell("deploying", f"deploying {packed.project}", project=packed.project)
        deployment = deploy.hand_in(self._api, packed, force=self._force)
        for line in deploy.build_log(self._api, deployment):
            self._terminal.build_line(line)
        deployment = self._api.patient_get(f"/deployments/{deployment['id']}")
        deploy.check(deployment)
        self._deployed, self._version = digest, f"{deployment['project']} {deployment['version']}"
        seconds = round(time.monotonic() - began, 1)
        tasks = [str(task["id"]) for task in deployment.get("tasks") or []]
        for finding in deployment.get("findings") or []:
            self._terminal.tell("finding", f"warning: {finding['message']}", "yellow", **finding)
        self._terminal.tell(
            "deployed",
            f"{self._version} is current after {seconds:g} s: {', '.join(tasks) or 'it has no tasks'}",
            "green",
            project=deployment["project"],
            version=deployment["version"],
            image=deployment["image"],
            tasks=tasks,
            seconds=seconds,
        )
