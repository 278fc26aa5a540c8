"""What a task container is made of. A closed, typed list: no option is ever passed through to the engine."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property

from samovar import wire

from coordinator.wire import Assignment, TaskLimits, Wanted
from runner import reach
from runner.policy import Policy
from runner.reach import Reach

MANAGED = "samovar"
RUNNER = "samovar.runner"
PROJECT = "samovar.project"
KEY = "samovar.key"
UID = "samovar.uid"

HOME = "/home/task"
HOSTNAME = "task"
OPEN_FILES = 4096


@dataclass(frozen=True)
class ContainerKey:
    """Runs with equal keys may share a container, one after the other."""

    project: str
    image: str
    memory: int
    cpu: float
    #: "none", "public", "open", or hosts: runs share a container only where they reach the same.
    network: Reach
    #: (host path, target, read-only)
    mounts: tuple[tuple[str, str, bool], ...]
    trust: str
    #: Processes and threads.
    pids: int
    #: Bytes that /tmp, the home folder and /dev/shm may each hold; the pages count against the memory.
    scratch: int
    #: Whether its runs are those that share a process: what they leave in it no other run is to be beside.
    inline: bool = False

    @classmethod
    def of(cls, assignment: Assignment | Wanted, policy: Policy, memory: int, cpus: int) -> ContainerKey:
        """The key of an assignment. Raises Rejected where the policy of this host refuses it."""
        limits: TaskLimits = assignment.limits
        mounts = policy.resolve(assignment.project, limits, memory, cpus)
        return cls(
            project=assignment.project,
            image=assignment.image,
            memory=limits.memory,
            cpu=limits.cpu,
            network=reach.normal(limits.network),
            mounts=tuple((str(path), target, read_only) for path, target, read_only in mounts),
            trust=limits.trust,
            pids=policy.pids(limits),
            scratch=policy.scratch(limits),
            inline=limits.isolation == "inline" and limits.trust != "untrusted",
        )

    @cached_property
    def digest(self) -> str:
        """A short name for the key, for a label."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def inodes(self) -> int:
        """Files and folders of each scratch file system: a tmpfs without such a limit takes any number."""
        return max(16_384, self.scratch // 8192)

    @property
    def untrusted(self) -> bool:
        """Whether it runs in a sandbox, once, and with nothing of the host's."""
        return self.trust == "untrusted"

    @property
    def environment(self) -> dict[str, str]:
        """What the container's processes begin with.

        SAMOVAR_CPUS: whole processors, for libraries that ask. SAMOVAR_EGRESS: where process 1 listens.
        """
        found = {
            "HOME": HOME,
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            "SAMOVAR_CPUS": str(max(1, math.ceil(self.cpu))),
        }
        told = reach.told(self.network)
        return found if told is None else {**found, wire.EGRESS_VARIABLE: told}

    @property
    def hosts(self) -> dict[str, str]:
        """What /etc/hosts has besides the engine's own. On a network of its own it says itself where we are."""
        return {} if self.network == "open" else {HOSTNAME: "127.0.0.1", **reach.hosts(self.network)}


@dataclass(frozen=True)
class ContainerSpec:
    """One container to create."""

    name: str
    runner: str
    key: ContainerKey
    #: Host directory with the sidecar's socket, mounted read-only.
    sockets: str
    #: The user of its processes; their group is the same in all containers.
    uid: int = wire.TASK_UID
    #: Host file to mount at /etc/passwd, for a user that the image does not know.
    passwd: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        named = {MANAGED: "1", RUNNER: self.runner, PROJECT: self.key.project, KEY: self.key.digest}
        return {**named, UID: str(self.uid)}
