"""The sidecar's settings: each a flag of `python -m sidecar` and an environment variable of the same name."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="SAMOVAR_SIDECAR_",
        env_ignore_empty=True,
        cli_parse_args=False,
        cli_kebab_case=True,
        cli_prog_name="python -m sidecar",
    )

    coordinator_url: str = Field(
        description="Where the coordinator answers, e.g. http://127.0.0.1:7420; of several on one database any "
        "will do: their URLs with commas between them"
    )
    control_socket: Path = Field(description="The unix socket the runner calls; only its owner may open it")
    containers: Path | None = Field(
        None, description="Directory of the containers' sockets; default: `c` beside the control socket"
    )
    buffer_bytes: int = Field(
        8 * 1024 * 1024, gt=0, description="Log bytes kept while the coordinator is away; then tasks block"
    )

    hosts: Path | None = Field(
        None,
        description="A file in the form of /etc/hosts: names that tasks reach at these addresses, before the "
        "host's own resolver is asked",
    )

    @property
    def containers_directory(self) -> Path:
        return self.containers or self.control_socket.parent / "c"
