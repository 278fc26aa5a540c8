"""`samovar up`: coordinator, sidecar and runner on this machine, in the foreground."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from samovar.cli.api import CREDENTIALS, Api, Credentials
from samovar.cli.command import Cli
from samovar.cli.data import OTHERS, data_directory, locked
from samovar.cli.errors import CliError
from samovar.cli.install import Install, parts, prepare, release, write_credentials
from samovar.cli.ports import check_address, free_port
from samovar.cli.server import docker_get, require_server
from samovar.cli.supervisor import Part, Supervisor

_READY_TIMEOUT = 60.0
_DEATHS_BEFORE_READY = 3
_TICK = 0.1
#: By which an operator lets this host's runner in.
_OWN_WAYS = tuple(f"SAMOVAR_RUNNER_{name}" for name in ("TOKEN", "TOKEN_FILE", "KEY", "KEY_FILE"))


def up(
    cli: Cli,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 7420,
    database: Annotated[
        Optional[str], typer.Option(help="postgresql://… or sqlite:///PATH; by default in the data directory.")
    ] = None,
    policy: Annotated[
        Optional[Path],
        typer.Option(help="What tasks may ask of this host; by default policy.toml in the data directory."),
    ] = None,
    tls_cert: Annotated[
        Optional[Path],
        typer.Option(
            help="The certificate, with its chain, in PEM: the port speaks TLS alone.",
            envvar="SAMOVAR_COORDINATOR_TLS_CERT",
        ),
    ] = None,
    tls_key: Annotated[
        Optional[Path],
        typer.Option(help="The certificate's private key, in PEM.", envvar="SAMOVAR_COORDINATOR_TLS_KEY"),
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option("--behind-proxy", help="Listen beyond this machine without TLS, because a proxy is in front."),
    ] = False,
    fleet_listen: Annotated[
        str,
        typer.Option(
            help="Where runners and sidecars of other hosts are answered: HOST:PORT, with TLS as the port.",
            envvar="SAMOVAR_COORDINATOR_FLEET_LISTEN",
        ),
    ] = "",
) -> None:
    """Run Samovar on this machine until Ctrl-C."""
    require_server()
    check_address(host, tls_cert, tls_key, behind_proxy)
    for address in filter(None, fleet_listen.split(",")):
        check_address(
            address.strip().rpartition(":")[0].strip("[]"), tls_cert, tls_key, behind_proxy, "--fleet-listen"
        )
    os.umask(OTHERS)
    data = data_directory(cli.common.data)
    with locked(data, cli.output.say) as lock:
        docker_get("/version")
        install = prepare(data, host, port, database, policy, fleet_listen)
        if tls_cert is not None and tls_key is not None:
            files = (tls_cert.absolute(), tls_key.absolute())
            install = replace(install, tls=files, local_port=free_port("127.0.0.1", 0))
            write_credentials(install)
        install = replace(install, behind_proxy=behind_proxy)
        supervise(cli, install, lock)


def supervise(cli: Cli, install: Install, lock: int) -> None:
    """Start the parts, say when they are ready, look after them until a signal, stop them in order."""
    ending = threading.Event()
    impatient = threading.Event()

    def end(number: int, frame: object) -> None:
        # SIGHUP is no impatience: a terminal that closes, or a `samovar dev` that is killed, sends several
        (impatient if ending.is_set() and number != signal.SIGHUP else ending).set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    supervisor = Supervisor(logs=install.data / "logs", directory=install.data, say=cli.output.say, keep=(lock,))
    api = Api(Credentials(install.url, install.admin_key, "samovar up"))
    stopped = False
    try:
        coordinator, sidecar, runner = parts(install)
        with cli.output.status("starting"):
            supervisor.start(coordinator)
            supervisor.start(sidecar)
            if _await(supervisor, ["coordinator"], ending, api.ready, "the coordinator to answer"):
                supervisor.start(enrolled(runner, api))
                _await(
                    supervisor, ["runner", "sidecar"], ending, lambda: runner_there(api), "the runner to register"
                )
        if not ending.is_set():
            _say_ready(cli, install, api)
        while not ending.wait(_TICK):
            supervisor.tick()
        cli.output.say("stopping; once more Ctrl-C ends it at once and leaves containers to the next start")
        watch = threading.Thread(target=_kill_when, args=(impatient, os.getpid()), daemon=True)
        watch.start()
        supervisor.stop(["runner", "sidecar", "coordinator"])
        stopped = True
        release(install)
    finally:
        if not stopped:
            supervisor.kill()
        api.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    cli.output.say("stopped")


def _kill_when(impatient: threading.Event, pid: int) -> None:
    # the children die with this process
    impatient.wait()
    os.kill(pid, signal.SIGKILL)


def _await(
    supervisor: Supervisor, names: list[str], ending: threading.Event, done: Callable[[], bool], what: str
) -> bool:
    deadline = time.monotonic() + _READY_TIMEOUT
    while not ending.is_set():
        supervisor.tick()
        if done():
            return True
        failed = next((name for name in names if supervisor.deaths(name) >= _DEATHS_BEFORE_READY), None)
        late = time.monotonic() > deadline
        if failed or late:
            name = failed or names[0]
            said = "\n".join(f"  {line}" for line in supervisor.tail(name)[-10:])
            why = f"{name} does not start" if failed else f"waited {_READY_TIMEOUT:g} s for {what}"
            raise CliError(f"{why}. It said:\n{said}", code="not_started")
        ending.wait(_TICK)
    return False


def enrolled(runner: Part, api: Api) -> Part:
    """The runner's part, with a token that works once where the coordinator does not know this host.

    One that was thrown out (`samovar keys revoke`) is known, and stays out until somebody gives it a token.
    """
    if any(name in runner.environment for name in _OWN_WAYS):
        return runner
    state = Path(runner.environment["SAMOVAR_RUNNER_STATE"])
    known = {host["runner"] for host in api.items("/hosts") if host["key"] is not None}
    try:
        own = (state / "runner-id").read_text("utf-8").strip()
    except FileNotFoundError:
        own = ""
    if own in known and (state / "runner.key").is_file():
        return runner
    token = api.post("/hosts/token", {})["token"]
    return replace(runner, environment={**runner.environment, "SAMOVAR_RUNNER_TOKEN": str(token)})


def runner_there(api: Api) -> bool:
    """Whether a live runner has registered."""
    try:
        return bool(api.get("/pool", patience=5.0)["items"])
    except CliError:
        return False


def _say_ready(cli: Cli, install: Install, api: Api) -> None:
    document = {"url": install.url, "credentials": str(install.data / CREDENTIALS), "data": str(install.data)}
    try:
        document["dashboard"] = api.post("/dashboard/link", {"path": "/"})["url"]
    except CliError:  # it was there a moment ago; `samovar open` asks again
        document["dashboard"] = install.url
    if cli.as_json:
        cli.output.document(document)
    else:
        cli.output.line(f"Samovar is ready at {install.url}", "green")
    cli.output.say(f"the dashboard: {document['dashboard']} (signs in once, on this host)")
    cli.output.say(
        f"the key is in {install.data / CREDENTIALS}, logs are in {install.data / 'logs'}; Ctrl-C stops it"
    )
