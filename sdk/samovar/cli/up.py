"""`samovar up`: coordinator, sidecar and runner on this machine, in the foreground."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import secrets
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from samovar.cli.api import CREDENTIALS, DEFAULT_DATA, Api, Credentials
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.server import docker_get, require_server
from samovar.cli.supervisor import Part, Supervisor

#: What a unix socket's path may be long, less what the sidecar puts below the directory.
_SOCKET_PATH = 107
_BELOW = 60
_READY_TIMEOUT = 60.0
#: How long the children of a supervisor that was killed may take to go.
_PREDECESSOR_TIMEOUT = 30.0
_DEATHS_BEFORE_READY = 3
#: A free port is looked for from here on, so often by chance.
_LEAST_PORT, _TRIES = 10240, 50
_TICK = 0.1
#: What nobody but its owner may do with the data directory, or with any file of the parts.
_OTHERS = 0o077

_EVERYBODY = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "NO_COLOR")
#: What builds need to reach package indexes, and the engine's address: the runner's alone.
_RUNNER_PREFIXES = ("DOCKER_", "PIP_", "SAMOVAR_RUNNER_", "XDG_")
_RUNNER_NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
#: By which an operator lets this host's runner in.
_OWN_WAYS = tuple(f"SAMOVAR_RUNNER_{name}" for name in ("TOKEN", "TOKEN_FILE", "KEY", "KEY_FILE"))
#: By which the host itself reaches the network: builds, and what tasks reach through the sidecar.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Install:
    """A local install: where its data is, where it listens, and its key."""

    data: Path
    host: str
    port: int
    admin_key: str
    sockets: Path
    database: str | None
    policy: Path | None
    #: The port on 127.0.0.1 at which this host's runner and sidecar are answered, and nobody else is.
    fleet_port: int
    #: Certificate and key where the port speaks TLS; commands on this machine then use `local_port`.
    tls: Optional[tuple[Path, Path]] = None
    local_port: Optional[int] = None
    behind_proxy: bool = False
    #: Where those of other hosts are answered, as the coordinator's setting has it.
    fleet_listen: str = ""

    @property
    def url(self) -> str:
        """Where commands on this machine reach the coordinator."""
        if self.local_port is not None:
            return f"http://127.0.0.1:{self.local_port}"
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    @property
    def fleet_url(self) -> str:
        """Where this host's runner and sidecar reach it."""
        return f"http://127.0.0.1:{self.fleet_port}"


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
    os.umask(_OTHERS)
    data = data_directory(cli.common.data)
    with locked(data, cli.output.say) as lock:
        docker_get("/version")
        install = prepare(data, host, port, database, policy, fleet_listen)
        if tls_cert is not None and tls_key is not None:
            files = (tls_cert.absolute(), tls_key.absolute())
            install = replace(install, tls=files, local_port=free_port("127.0.0.1", 0))
            _write_credentials(install)
        install = replace(install, behind_proxy=behind_proxy)
        supervise(cli, install, lock)


def check_address(host: str, cert: Path | None, key: Path | None, behind_proxy: bool, flag: str = "--host") -> None:
    """Raise CliError where the port would show keys to a network."""
    if (cert is None) != (key is None):
        raise CliError("TLS takes both --tls-cert and --tls-key", code="unsafe_address")
    for file in filter(None, (cert, key)):
        if not file.is_file():
            raise CliError(f"there is no file {file}", code="unsafe_address")
    proxies = os.environ.get("SAMOVAR_COORDINATOR_TRUSTED_PROXIES", "")
    said = os.environ.get("SAMOVAR_COORDINATOR_BEHIND_PROXY", "").lower() in ("1", "true", "yes", "on") or proxies
    if cert is None and not behind_proxy and not said and not _is_loopback(host):
        raise CliError(
            f"{flag} {host}: listening beyond this machine without TLS shows keys and payloads to the network. "
            "Give --tls-cert and --tls-key; or, where a proxy with TLS is in front, say so with --behind-proxy; or "
            "stay on 127.0.0.1",
            code="unsafe_address",
        )


def _is_loopback(host: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        # what is wrong with it is said by who listens there
        return bool(host) and not host[0].isdigit()
    return bool(host) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def data_directory(given: Path | None) -> Path:
    """The data directory, made where it is not there. Raises CliError where it cannot be written."""
    data = (given or Path(os.environ.get("SAMOVAR_DATA") or DEFAULT_DATA)).expanduser().absolute()
    try:
        if not data.is_dir():
            data.mkdir(mode=0o700, parents=True)
        _close(data)
        with tempfile.TemporaryFile(dir=data):
            pass
    except OSError as error:
        raise CliError(
            f"the data directory {data} cannot be written: {error.strerror or error}; give another with --data",
            code="data_unwritable",
        ) from None
    return data


def _close(data: Path) -> None:
    """Take from other users what they may do in the data directory. Raises CliError where it is not ours to."""
    state = data.stat()
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise CliError(
            f"the data directory {data} belongs to user {state.st_uid}; give one of your own with --data",
            code="data_not_private",
        )
    if not mode & _OTHERS:
        return
    # a directory that has other things in it is not changed behind the back of whoever keeps them there
    ours = (data / CREDENTIALS).is_file() or not any(data.iterdir())
    if mode & stat.S_ISVTX or not ours:
        raise CliError(
            f"the data directory {data} is open to other users (mode {mode:04o}), and keys and payloads are "
            f"kept in it: chmod 700 it, or give another with --data",
            code="data_not_private",
        )
    data.chmod(mode & ~_OTHERS)


@contextlib.contextmanager
def locked(data: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the data directory; gives the lock's descriptor, which the children inherit.

    So the lock is free only when all of them are gone, also where their supervisor was killed. Raises CliError
    where another `samovar up` has it.
    """
    path = data / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline: float | None = None
        while not _try_lock(descriptor):
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            if _alive(owner):
                raise CliError(f"samovar is up already on {data} (process {owner})", code="already_up")
            if deadline is None:
                deadline = time.monotonic() + _PREDECESSOR_TIMEOUT
                say("waiting for the processes of an earlier `samovar up` to end")
            if time.monotonic() > deadline:
                raise CliError(
                    f"processes of an earlier `samovar up` on {data} are still there; end them first "
                    f"(fuser {path} names them)",
                    code="already_up",
                )
            time.sleep(_TICK)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def prepare(
    data: Path, host: str, port: int, database: str | None, policy: Path | None, fleet_listen: str = ""
) -> Install:
    """Key, credentials and directories of an install, made where they are not there yet."""
    port = free_port(host, port)
    if policy is not None and not policy.is_file():
        raise CliError(f"--policy: there is no file {policy}", code="no_policy")
    standard = data / "policy.toml"
    install = Install(
        data=data,
        host=host,
        port=port,
        admin_key=_stored_key(data / CREDENTIALS) or f"sk_{secrets.token_urlsafe(32)}",
        fleet_port=_port_beside(port, fleet_listen),
        fleet_listen=fleet_listen,
        sockets=_socket_directory(data),
        database=database,
        policy=policy.absolute() if policy is not None else standard if standard.is_file() else None,
    )
    # with it earlier versions let hosts in; it opens nothing any more
    (data / "runner.key").unlink(missing_ok=True)
    _write_credentials(install)
    return install


def parts(install: Install) -> list[Part]:
    """The three processes, in the order they start, each with what it needs to know and no more."""
    everybody = {name: os.environ[name] for name in _EVERYBODY if name in os.environ}
    control = str(install.sockets / "control.sock")
    coordinator = {
        "SAMOVAR_COORDINATOR_HOST": install.host,
        "SAMOVAR_COORDINATOR_PORT": str(install.port),
        "SAMOVAR_COORDINATOR_DATA": str(install.data),
        "SAMOVAR_COORDINATOR_ADMIN_KEY": install.admin_key,
        "SAMOVAR_COORDINATOR_FLEET_LISTEN": ",".join(
            filter(None, (f"127.0.0.1:{install.fleet_port}", install.fleet_listen))
        ),
    }
    if install.tls is not None:
        coordinator["SAMOVAR_COORDINATOR_TLS_CERT"], coordinator["SAMOVAR_COORDINATOR_TLS_KEY"] = map(
            str, install.tls
        )
        coordinator["SAMOVAR_COORDINATOR_LOCAL_PORT"] = str(install.local_port)
    if install.behind_proxy:
        coordinator["SAMOVAR_COORDINATOR_BEHIND_PROXY"] = "true"
    if install.database is not None:
        coordinator["SAMOVAR_COORDINATOR_DATABASE_URL"] = install.database
    sidecar = {"SAMOVAR_SIDECAR_COORDINATOR_URL": install.fleet_url, "SAMOVAR_SIDECAR_CONTROL_SOCKET": control}
    runner = {
        "SAMOVAR_RUNNER_COORDINATOR_URL": install.fleet_url,
        "SAMOVAR_RUNNER_SIDECAR_SOCKET": control,
        "SAMOVAR_RUNNER_STATE": str(install.data / "runner"),
    }
    if install.policy is not None:
        runner["SAMOVAR_RUNNER_POLICY"] = str(install.policy)
    if (containers := os.environ.get("SAMOVAR_SIDECAR_CONTAINERS")) is not None:
        # the runner mounts them by its own settings, and has to look where they are
        runner["SAMOVAR_RUNNER_CONTAINERS"] = containers
    proxies = {name: value for name, value in os.environ.items() if name.upper() in _PROXIES}
    for_runner = {
        name: value
        for name, value in os.environ.items()
        if name in _RUNNER_NAMES or name.startswith(_RUNNER_PREFIXES)
    }
    return [
        Part("coordinator", {**everybody, **_settings("COORDINATOR"), **coordinator}, 15.0),
        Part("sidecar", {**everybody, **proxies, **_settings("SIDECAR"), **sidecar}, 10.0),
        Part("runner", {**everybody, **proxies, **for_runner, **runner}, 30.0),
    ]


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


def release(install: Install) -> None:
    """Remove the socket directory where it is outside the data directory and nothing is left in it."""
    if install.sockets.parent != install.data:
        for directory in (install.sockets / "c", install.sockets):
            with contextlib.suppress(OSError):
                directory.rmdir()


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


def _settings(part: str) -> dict[str, str]:
    # what an operator sets for one part is not seen by the others
    prefix = f"SAMOVAR_{part}_"
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def free_port(host: str, port: int) -> int:
    """`port` where it can be listened on, and for 0 one that is free. Raises CliError (`port_taken`)."""
    if port:
        return _bound(host, port)
    # not one of those that connections are given: until the coordinator listens, any program may get one
    for _ in range(_TRIES):
        with contextlib.suppress(CliError):
            return _bound(host, _LEAST_PORT + secrets.randbelow(_first_of_connections() - _LEAST_PORT))
    return _bound(host, 0)


def _first_of_connections() -> int:
    """The first port that the kernel gives to connections."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = 32768
    return max(first, _LEAST_PORT + 1)


def _bound(host: str, port: int) -> int:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CliError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); give another with --port, or --port 0 "
            "for a free one",
            code="port_taken",
        ) from None


def _port_beside(port: int, taken: str) -> int:
    """The next port on 127.0.0.1 that is not among the addresses `taken`, or else a free one."""
    given = {address.strip().rpartition(":")[2] for address in taken.split(",")}
    after = next(number for number in range(port + 1, port + len(given) + 2) if str(number) not in given)
    with contextlib.suppress(CliError):
        if after <= 65535:
            return free_port("127.0.0.1", after)
    return free_port("127.0.0.1", 0)


def _write_credentials(install: Install) -> None:
    content = {"url": install.url, "api_key": install.admin_key}
    _write_private(install.data / CREDENTIALS, json.dumps(content) + "\n")


def _stored_key(path: Path) -> str | None:
    try:
        key = json.loads(path.read_text("utf-8"))["api_key"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(
            f"{path} cannot be read ({error}); remove it, and a new key is made", code="no_credentials"
        ) from None
    return str(key)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)


def _socket_directory(data: Path) -> Path:
    """A directory for unix sockets whose paths are short enough, the same one for the same data directory."""
    directory = data / "run"
    if len(os.fsencode(directory)) + _BELOW > _SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
        directory = Path("/tmp") / f"samovar-{os.getuid()}-{digest}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        state = directory.lstat()
    except OSError as error:
        raise CliError(f"{directory} cannot be made: {error.strerror or error}", code="no_sockets") from None
    if state.st_uid != os.getuid() or directory.is_symlink():
        raise CliError(f"{directory} belongs to somebody else; remove it", code="no_sockets")
    directory.chmod(0o700)
    return directory
