"""The coordinator's settings: each a flag of `python -m coordinator` and an environment variable."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url

from coordinator.access import key_files
from coordinator.wire import Duration, Memory

DAY = 86400.0


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="SAMOVAR_COORDINATOR_",
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_prog_name="python -m coordinator",
    )

    host: str = Field("127.0.0.1", description="The address to listen on")
    port: int = Field(7420, ge=0, le=65535, description="The port to listen on; 0 takes a free one")
    tls_cert: Path | None = Field(
        None, description="File of the certificate, with its chain, in PEM: the port speaks TLS alone"
    )
    tls_key: Path | None = Field(None, description="File of the certificate's private key, in PEM")
    local_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="With TLS: a port on 127.0.0.1 without it, for the parts on this machine",
    )
    fleet_listen: str = Field(
        "",
        description="Where runners and sidecars are answered, and nobody else is: HOST:PORT, several with commas "
        "between them; on loopback without TLS, elsewhere with it. Default: at port, with everybody",
    )
    fleet_at_port: bool = Field(
        False, description="With fleet_listen: runners and sidecars are answered at port as well"
    )
    behind_proxy: bool = Field(
        False,
        description="Listen beyond loopback without TLS, because a proxy or a network of containers is in front; "
        "so is said by trusted_proxies",
    )
    data: Path = Field(description="Directory of the blobs, the server's secret and the embedded database")
    database_url: str | None = Field(
        None,
        description="sqlite:///PATH or postgresql://…; default: coordinator.db in the data directory",
    )
    admin_key: SecretStr | None = Field(
        None, description="A bearer key with the role admin; better in the environment than as a flag"
    )
    admin_key_file: Path | None = Field(
        None, description="File of the admin key, instead of it; made with a new key where there is none"
    )
    host_token_file: Path | None = Field(
        None,
        description="File in which a token for the install's first host is left, for a runner that has it as its "
        "token_file; it works once, within 7 days, and is made at starts before any host was enrolled",
    )
    database_password_file: Path | None = Field(
        None, description="File of the password that the database URL leaves out"
    )
    master_key_file: Path | None = Field(
        None,
        description="File of the keys that seal secrets, mode 0600; default: master-keys in the data directory",
    )
    public_url: str | None = Field(
        None, description="Where people and programs reach this coordinator; default: http://HOST:PORT"
    )
    max_running: int | None = Field(
        None, ge=1, description="Most runs that execute at once, over all queues and runners; default: no limit"
    )
    retention_runs: Duration = Field(
        30 * DAY, description="How long a run is kept after its end, with its logs and checkpoints; 0: for ever"
    )
    retention_files: Duration = Field(
        7 * DAY, description="How long an uploaded file is kept that no run has; 0: for ever. A run's go with it"
    )
    file_bytes: Memory = Field(5 * 1024**3, description="The largest file that is taken")
    run_file_bytes: Memory = Field(5 * 1024**3, description="What the files that one run keeps may take together")
    retention_events: Duration = Field(30 * DAY, description="How long events and deliveries are kept; 0: for ever")
    retention_builds: Duration = Field(
        30 * DAY, description="How long build logs, and versions that nothing needs any more, are kept; 0: for ever"
    )
    retention_pool: Duration = Field(
        7 * DAY,
        description="How long it is kept of containers that have left why they did, for 2,000 of a runner at the "
        "most; 0: for ever",
    )
    retention_history: Duration = Field(
        400 * DAY,
        description="How long it is kept how many runs of a task ended in a day and how, and groups of errors that "
        "were not seen since; hours are kept for 30 days of it; 0: for ever",
    )
    retention_audit: Duration = Field(
        90 * DAY, description="How long the audit is kept: who did what, from where; 0: for ever"
    )
    keep_versions: int = Field(
        5,
        ge=1,
        description="Newest versions of a project whose images are kept; so are as many that were current last",
    )
    project_bytes: Memory = Field(
        20 * 1024**3,
        description="Bytes that a project may store: payloads, results, checkpoints, logs, files, events, "
        "deliveries, secrets, sources; 0: no limit",
    )
    project_runs: int = Field(
        100_000,
        ge=0,
        description="Runs of a project that have not ended; beyond it triggers are refused; 0: no limit",
    )
    tree_runs: int = Field(20_000, ge=0, description="Runs that a run and all its descendants may be; 0: no limit")
    least_free: Memory = Field(
        512 * 1024**2,
        description="Bytes of the data directory's disk that stay free: below it nothing new is taken",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses of proxies, with commas: whom they name as the client (X-Forwarded-For) is "
        "believed, and they may have any number of connections",
    )
    max_connections: int = Field(
        4096, ge=16, le=1_000_000, description="Connections at once; the oldest idle one makes room for a new one"
    )
    max_connections_per_address: int = Field(
        1024, ge=4, le=1_000_000, description="Connections at once of one address that is no trusted proxy"
    )
    log_level: str = Field("info", description="debug, info, warning or error")

    @property
    def resolved_master_key_file(self) -> Path:
        return self.master_key_file or self.data / "master-keys"

    @property
    def resolved_public_url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        own = f"{'http' if self.tls_cert is None else 'https'}://{f'[{host}]' if ':' in host else host}:{self.port}"
        return (self.public_url or own).rstrip("/")

    @property
    def resolved_database_url(self) -> str:
        url = self.database_url or f"sqlite:///{(self.data / 'coordinator.db').resolve()}"
        if self.database_password_file is None:
            return url
        password = self.database_password_file.read_text("utf-8").strip()
        return make_url(url).set(password=password).render_as_string(hide_password=False)

    @property
    def resolved_admin_key(self) -> str | None:
        """The admin's key that the settings name; one that its file has to be made for is made."""
        if self.admin_key is not None:
            return self.admin_key.get_secret_value()
        return None if self.admin_key_file is None else key_files.read(self.admin_key_file)
