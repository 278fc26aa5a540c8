"""An install on this machine: where its data is, where it listens, and what each of its three processes is told."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from samovar.cli.api import CREDENTIALS
from samovar.cli.data import socket_directory, stored_key, write_private
from samovar.cli.errors import CliError
from samovar.cli.ports import free_port, port_beside
from samovar.cli.supervisor import Part

_EVERYBODY = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "NO_COLOR")
#: What builds need to reach package indexes, and the engine's address: the runner's alone.
_RUNNER_PREFIXES = ("DOCKER_", "PIP_", "SAMOVAR_RUNNER_", "XDG_")
_RUNNER_NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
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
    tls: tuple[Path, Path] | None = None
    local_port: int | None = None
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
        admin_key=stored_key(data / CREDENTIALS) or f"sk_{secrets.token_urlsafe(32)}",
        fleet_port=port_beside(port, fleet_listen),
        fleet_listen=fleet_listen,
        sockets=socket_directory(data),
        database=database,
        policy=policy.absolute() if policy is not None else standard if standard.is_file() else None,
    )
    # with it earlier versions let hosts in; it opens nothing any more
    (data / "runner.key").unlink(missing_ok=True)
    write_credentials(install)
    return install


def write_credentials(install: Install) -> None:
    content = {"url": install.url, "api_key": install.admin_key}
    write_private(install.data / CREDENTIALS, json.dumps(content) + "\n")


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


def release(install: Install) -> None:
    """Remove the socket directory where it is outside the data directory and nothing is left in it."""
    if install.sockets.parent != install.data:
        for directory in (install.sockets / "c", install.sockets):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _settings(part: str) -> dict[str, str]:
    # what an operator sets for one part is not seen by the others
    prefix = f"SAMOVAR_{part}_"
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}
