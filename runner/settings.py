"""The runner's settings: each a flag of `python -m runner` and an environment variable of the same name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from coordinator.keeping import warm
from coordinator.wire import Duration, Memory

#: The runner's own key, in its state directory.
OWN_KEY = "runner.key"


def host_memory() -> int:
    """Bytes of memory in this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def host_cpus() -> int:
    return len(os.sched_getaffinity(0))


def parse_range(text: str) -> tuple[int, int]:
    """`"200000-265535"` as two numbers. Raises ValueError naming what would do."""
    match = re.fullmatch(r"(\d{1,10})-(\d{1,10})", text.strip())
    if match:
        first, last = int(match[1]), int(match[2])
        if 1000 <= first < last < 2**31 and last - first >= 255:
            return first, last
    raise ValueError(f'{text!r} is no range of user ids: give 256 or more from 1000 up, such as "200000-265535"')


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="SAMOVAR_RUNNER_", env_ignore_empty=True, cli_kebab_case=True, cli_prog_name="python -m runner"
    )

    coordinator_url: str = Field(
        description="Where the coordinator answers, e.g. http://127.0.0.1:7420; of several on one database any "
        "will do: their URLs with commas between them"
    )
    key: SecretStr | None = Field(
        None, description="A key of the role runner that was made for this runner alone; `token` is the usual way"
    )
    key_file: Path | None = Field(None, description="File of the key, instead of it")
    token: SecretStr | None = Field(
        None,
        description="A token of `samovar hosts token`, which gives this runner a key of its own, kept in `state`; "
        "needed once, and passed over afterwards",
    )
    token_file: Path | None = Field(None, description="File of the token, where `token` is not given")
    sidecar_socket: Path = Field(description="The control socket of this host's sidecar")
    containers: Path | None = Field(
        None,
        description="Directory of the containers' sockets, as the sidecar has it; default: `c` beside its socket",
    )
    state: Path = Field(
        description="Directory of this runner's identity, its containers' records and the package caches"
    )
    policy: Path | None = Field(None, description="The operator's policy.toml; default: none allows nothing")
    memory: Memory = Field(
        default_factory=lambda: int(host_memory() * 0.8),
        description="Memory for all containers together; default: 80 % of the host's",
    )
    slots: int = Field(
        default_factory=lambda: max(8, 4 * host_cpus()),
        gt=0,
        description="Runs at once; default: four for each processor, at least 8",
    )
    uids: str | None = Field(
        None,
        description="User ids for containers, each of which has its own, such as 200000-265535; default: "
        "1900000000-1900065535, or 20000-59999 where the engine maps users",
    )
    starts: int = Field(
        warm.STARTS,
        gt=0,
        description="Containers started at a time; one project has at most all but one of these slots",
    )
    builds: int = Field(
        2, gt=0, description="Image builds at a time; one project has one of them, or its share of the policy's"
    )
    pool_rule: Literal["greedy-dual", "lru", "ttl"] = Field(
        warm.RULE,
        description="Which idle container leaves when memory is wanted: the one that saves least for its memory, "
        "or the least recently used; with ttl that one, and each after keep_alive",
    )
    keep_alive: Duration = Field(warm.KEEP_ALIVE, description="With ttl: how long an idle container is kept warm")
    max_warm: int = Field(warm.MOST, ge=0, description="Idle containers kept in all")
    max_warm_per_task: int = Field(warm.MOST_PER_TASK, ge=0, description="Idle containers kept for one task")
    stems: int = Field(
        3,
        ge=0,
        description="Containers that may stand ready unused, started ahead of demand: after a deploy, before a "
        "schedule's tick, and where all of a task's were busy; 0: none",
    )
    max_runs: int = Field(1000, gt=0, description="Runs after which a container is replaced")
    max_age: Duration = Field(
        3600.0, description="Age after which a container is replaced, at the latest: some are a fifth younger"
    )
    grace: Duration = Field(5.0, description="Time between SIGTERM and SIGKILL when a run is ended")
    drain: Duration = Field(5.0, description="How long a stopping runner waits for its runs to end")
    start_timeout: Duration = Field(120.0, description="How long a new container may take to import the project")
    connect_timeout: Duration = Field(
        5.0, description="How long a new container holds its start slot where its process 1 does not connect"
    )
    handover_timeout: Duration = Field(
        2.0, description="How long a warm container may take to start a run before it is replaced"
    )
    heartbeat: Duration = Field(5.0, description="How often leases are renewed")

    @field_validator("uids")
    @classmethod
    def _a_range(cls, value: str | None) -> str | None:
        if value is not None:
            parse_range(value)
        return value

    @property
    def uid_range(self) -> tuple[int, int] | None:
        """The first and the last user id for containers; None: the usual ones."""
        return None if self.uids is None else parse_range(self.uids)

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key is not None and self.key_file is not None:
            raise ValueError("give one of key and key_file")
        given = (self.key, self.key_file, self.token, self.token_file)
        if all(each is None for each in given) and not (self.state / OWN_KEY).is_file():
            raise ValueError(
                "give one of key, key_file, token and token_file: `samovar hosts token`, with an admin's key, "
                "makes a token"
            )
        return self

    @property
    def containers_directory(self) -> Path:
        """Where each container's directory of sockets is; decided here, because its path is mounted."""
        return (self.containers or self.sidecar_socket.parent / "c").absolute()

    def bearer(self) -> str | None:
        """The key that the runner was given, from wherever it is; None where it has a token, or its own."""
        return _text(self.key, self.key_file)

    def enrolment_token(self) -> str | None:
        # a file that is gone was removed when it had done its work
        file = self.token_file if self.token_file is not None and self.token_file.is_file() else None
        return _text(self.token, file)


def _text(given: SecretStr | None, file: Path | None) -> str | None:
    if given is not None:
        return given.get_secret_value()
    return None if file is None else file.read_text("utf-8").strip()
