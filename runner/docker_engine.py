"""The Docker Engine behind runner.engine: the one file that runs containers."""

from __future__ import annotations

import builtins
import contextlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import docker
import docker.utils
import requests
import structlog
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import IPAMConfig, LogConfig, Mount, Ulimit
from samovar import wire

from runner import gvisor, seccomp, weights
from runner.engine import ContainerState
from runner.errors import EngineError, ImageMissing
from runner.spec import HOME, HOSTNAME, MANAGED, OPEN_FILES, RUNNER, UID, ContainerSpec

log = structlog.get_logger()

#: requests takes None for "wait as long as it takes"; docker's types know only numbers
_NO_TIMEOUT: Any = None
_GONE = (404, 409, 304)
#: The bridge for `network="open"`: containers on it reach out, not each other.
_OPEN_NETWORK = "samovar-open"
#: exec: compiled programs and unpacked libraries start from scratch; noexec is no boundary (memfd).
_TMPFS = "rw,exec,nosuid,nodev,size={size},nr_inodes={inodes},mode={mode}"
#: Over the message queues that the engine mounts: queues are files there, and would outlive a run.
_NOTHING = "ro,noexec,nosuid,nodev,size=4k,nr_inodes=2,mode=0555"


#: What the kernel would let a process take beyond its cgroup, by the name of the resource limit.
_LIMITS = {
    "nofile": OPEN_FILES,
    "core": 0,
    "memlock": 64 * 1024,
    # queued signals and timers
    "sigpending": 1024,
    "msgqueue": 0,
    # no better priority than others, no real time
    "nice": 0,
    "rtprio": 0,
}


class DockerEngine:
    """Containers of one Docker Engine, found the way the docker command finds it (DOCKER_HOST or the socket)."""

    def __init__(self, timeout: int = 60) -> None:
        try:
            self._client = docker.APIClient(timeout=timeout, num_pools=32, **_from_environment())
            self._client.ping()
        except (DockerException, requests.RequestException) as error:
            raise EngineError(f"no Docker Engine answers: {error}") from None
        self._network_lock = threading.Lock()
        self._maps_users: bool | None = None
        self._limits_sandboxes: bool | None = None

    def create(self, spec: ContainerSpec) -> None:
        with _engine_errors():
            host_config = self._client.create_host_config(
                mem_limit=spec.key.memory,
                memswap_limit=spec.key.memory,
                cpu_period=100_000,
                cpu_quota=max(1_000, int(spec.key.cpu * 100_000)),
                cpu_shares=weights.of(spec.key.cpu),
                pids_limit=spec.key.pids + (gvisor.THREADS if spec.key.untrusted else 0),
                ulimits=[Ulimit(name=name, soft=most, hard=most) for name, most in _limits(spec).items()],
                cap_drop=["ALL"],
                security_opt=["no-new-privileges", f"seccomp={seccomp.profile()}"],
                read_only=True,
                network_mode=self._network(spec.key.network == "open"),
                extra_hosts=spec.key.hosts or None,
                # no shared /dev/shm or message queue file system; the tmpfs below takes the former's place
                ipc_mode="none",
                log_config=LogConfig(type="none"),
                tmpfs=self._tmpfs(spec),
                mounts=self._mounts(spec),
                oom_kill_disable=False,
                runtime=gvisor.RUNTIME if spec.key.untrusted else None,
            )
            self._client.create_container(
                image=spec.key.image,
                name=spec.name,
                hostname=HOSTNAME,
                user=f"{spec.uid}:{wire.TASK_UID}",
                environment=spec.key.environment,
                labels=spec.labels,
                host_config=host_config,
                stdin_open=False,
                tty=False,
                detach=True,
            )

    def start(self, name: str) -> None:
        with _engine_errors():
            self._client.start(name)

    def kill(self, name: str) -> None:
        with _engine_errors(), _already_gone():
            self._client.kill(name)

    def weigh(self, name: str, weight: int) -> None:
        with _engine_errors(), _already_gone():
            self._client.update_container(name, cpu_shares=weight)

    def remove(self, name: str) -> None:
        with _engine_errors(), _already_gone():
            self._client.remove_container(name, force=True, v=True)

    def inspect(self, name: str) -> ContainerState | None:
        with _engine_errors():
            try:
                return _state(self._client.inspect_container(name))
            except NotFound:
                return None

    def list(self, runner: str) -> builtins.list[ContainerState]:
        with _engine_errors():
            found = self._client.containers(all=True, filters={"label": [f"{RUNNER}={runner}"]})
        states = (self.inspect(entry["Id"]) for entry in found)
        return [state for state in states if state is not None]

    @property
    def maps_users(self) -> bool:
        if self._maps_users is None:
            with _engine_errors():
                options = self._client.info().get("SecurityOptions") or []
            self._maps_users = any(
                name in option for option in options for name in ("name=userns", "name=rootless")
            )
        return self._maps_users

    def users(self) -> set[int]:
        with _engine_errors():
            found = self._client.containers(all=True, filters={"label": [UID]})
        texts = (entry["Labels"].get(UID, "") for entry in found)
        return {int(text) for text in texts if text.isdigit()}

    def read_file(self, image: str, path: str, most: int) -> bytes | None:
        labels = {MANAGED: "1"}
        with _engine_errors():
            # never started: its command is of no interest
            made = self._client.create_container(image, ["/none"], labels=labels, network_disabled=True)["Id"]
            try:
                stream, _ = self._client.get_archive(made, path)
                return _first_file(stream, most)
            except NotFound:
                return None
            finally:
                with _already_gone():
                    self._client.remove_container(made, force=True, v=True)

    def sandbox_problem(self) -> str | None:
        with _engine_errors():
            runtimes = self._client.info().get("Runtimes") or {}
        return gvisor.problem(runtimes)

    def sandbox_memory(self, name: str) -> int | None:
        with _engine_errors():
            try:
                state = self._client.inspect_container(name)["State"]
            except NotFound:
                return None
            if not state["Running"]:
                return None
            if self._limits_sandboxes is None:
                self._limits_sandboxes = gvisor.is_limited(self._client.info().get("Runtimes") or {})
        return None if self._limits_sandboxes else gvisor.taken(int(state["Pid"]))

    def image_exists(self, image: str) -> bool:
        with _engine_errors():
            try:
                self._client.inspect_image(image)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return False
            return True

    def watch(self, runner: str, died: Callable[[str], None], stop: Callable[[], bool]) -> None:
        # one connection held open for as long as the runner lives: no read timeout on it
        filters = {"type": "container", "event": "die", "label": f"{RUNNER}={runner}"}
        while not stop():
            try:
                with contextlib.closing(docker.APIClient(timeout=_NO_TIMEOUT, **_from_environment())) as client:
                    for event in client.events(decode=True, filters=filters):
                        died(event["Actor"]["Attributes"]["name"])
            except (DockerException, requests.RequestException, OSError) as error:
                if not stop():
                    log.warning("lost the engine's event stream; connecting again", problem=str(error))
                    threading.Event().wait(0.5)

    def close(self) -> None:
        self._client.close()

    def _tmpfs(self, spec: ContainerSpec) -> dict[str, str]:
        scratch = _TMPFS.format(size=spec.key.scratch, inodes=spec.key.inodes, mode="1777")
        home = f"{scratch},uid={spec.uid},gid={wire.TASK_UID}"
        return {"/tmp": scratch, HOME: home, "/dev/shm": scratch, "/dev/mqueue": _NOTHING}

    def _mounts(self, spec: ContainerSpec) -> builtins.list[Mount]:
        mounts = [Mount(wire.SOCKET_DIRECTORY, spec.sockets, type="bind", read_only=True)]
        if spec.passwd is not None:
            mounts.append(Mount("/etc/passwd", spec.passwd, type="bind", read_only=True))
        mounts += [
            Mount(target, path, type="bind", read_only=read_only, propagation="rprivate")
            for path, target, read_only in spec.key.mounts
        ]
        return mounts

    def _network(self, open: bool) -> str:
        if not open:
            return "none"
        with self._network_lock:
            if not self._client.networks(names=[_OPEN_NETWORK]):
                self._client.create_network(
                    _OPEN_NETWORK,
                    driver="bridge",
                    labels={MANAGED: "1"},
                    options={"com.docker.network.bridge.enable_icc": "false"},
                    ipam=IPAMConfig(),
                )
        return _OPEN_NETWORK


def _limits(spec: ContainerSpec) -> dict[str, int]:
    # a sandbox's own kernel counts its processes; the host sees threads of that kernel
    return {**_LIMITS, "nproc": spec.key.pids} if spec.key.untrusted else _LIMITS


def _first_file(stream: Iterator[bytes], most: int) -> bytes | None:
    """The first bytes of the file in a tar stream, of which no more is read than that takes: it is a deployer's."""
    data = b""
    with contextlib.closing(stream):  # type: ignore[type-var]
        for part in stream:
            data += part
            if len(data) >= most:
                break
    try:
        with tarfile.open(fileobj=io.BytesIO(data[:most]), mode="r:") as archive:
            entry = archive.next()
            if entry is None or not entry.isfile():
                return None
            return data[entry.offset_data : min(most, entry.offset_data + entry.size)]
    except tarfile.TarError:
        return None


def _from_environment() -> dict[str, Any]:
    return {"version": "auto", **docker.utils.kwargs_from_env()}


def _state(data: dict[str, Any]) -> ContainerState:
    state = data["State"]
    return ContainerState(
        name=data["Name"].lstrip("/"),
        running=bool(state["Running"]),
        exit_code=None if state["Running"] else int(state["ExitCode"]),
        out_of_memory=bool(state.get("OOMKilled")),
        labels=data["Config"].get("Labels") or {},
    )


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except ImageNotFound as error:
        raise ImageMissing(str(error.explanation)) from None
    except APIError as error:
        raise EngineError(str(error.explanation or error)) from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise EngineError(f"the Docker Engine does not answer: {error}") from None


@contextlib.contextmanager
def _already_gone() -> Iterator[None]:
    """A container that is gone, or on its way out, is where the caller wants it."""
    try:
        yield
    except APIError as error:
        if error.status_code not in _GONE:
            raise
