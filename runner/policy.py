"""The operator's policy: what a task may ask of this host, read from policy.toml by the runner alone."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from samovar import wire

from coordinator.wire import BuildShares, Duration, FieldProblem, Memory, TaskLimits
from coordinator.wire import Share as WireShare
from coordinator.wire import Shares as WireShares
from images.allowed import LONGEST, USUAL_BASES, read_line
from runner import gvisor, reach
from runner.errors import Rejected, RunnerError
from runner.machines import Machine, sized
from runner.reach import Network

#: What a task may have at most where the policy says nothing: enough for any program, and no fork bomb of the host.
MOST_PIDS = 4096
#: What it gets without a word.
USUAL_PIDS = 128
#: Where nothing may be mounted: what the container itself needs.
_TAKEN = ("/", "/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/run", "/tmp", "/var")
_OURS = (wire.IMAGE_CODE, "/opt/samovar", "/home", "/root", "/boot")


#: A part of what the host gives, from 1 to 100 %.
Part = Annotated[str, Field(pattern=r"^([1-9]|[1-9][0-9]|100)%$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Mount(_Strict):
    """A host directory that tasks may ask for by name."""

    path: Path
    mode: Literal["ro", "rw"] = "ro"
    projects: list[str] | None = None


class Limits(_Strict):
    memory: Memory | None = None
    cpu: float | None = Field(default=None, gt=0)
    timeout: Duration | None = None
    pids: int | None = Field(default=None, ge=16)
    scratch: Memory | None = None


class Images(_Strict):
    """What projects may be built on."""

    bases: Annotated[list[Annotated[str, Field(max_length=LONGEST)]], Field(max_length=1000)] = Field(
        default_factory=lambda: list(USUAL_BASES)
    )
    base_size: Memory = 4 * 1024**3

    @field_validator("bases")
    @classmethod
    def _bases(cls, value: list[str]) -> list[str]:
        for line in value:
            read_line(line)
        return value


class Builds(_Strict):
    """What builds may download from."""

    #: `"name:port"` and `"*.name:port"`, beside the package index of this host's pip and apt; at any address.
    hosts: Annotated[list[Annotated[str, Field(max_length=260)]], Field(max_length=500)] = Field(
        default_factory=list
    )

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        for item in value:
            if (problem := reach.problem(item, [item])) is not None:
                raise ValueError(f'{problem}, such as "code.example:443"')
        return value


class Share(_Strict):
    """What one project may hold of this host at a time: a number, or a part such as "50%"."""

    memory: Memory | Part | None = None
    slots: Annotated[int, Field(ge=1)] | Part | None = None
    #: Of image builds.
    builds: Annotated[int, Field(ge=1)] | Part | None = None


class Shares(Share):
    """The share of every project, and others' by name; they hold once more than one project is deployed."""

    projects: dict[str, Share] = Field(default_factory=dict)


class Untrusted(_Strict):
    """The most that a task of trust="untrusted" may have."""

    memory: Memory = 512 * 1024**2
    cpu: float = Field(1.0, gt=0)
    timeout: Duration = 3600.0
    pids: int = Field(64, ge=16)
    scratch: Memory = 64 * 1024**2
    #: Where this host has no gVisor, deploys are warned and not refused, because other hosts have it.
    elsewhere: bool = False


class Policy(_Strict):
    """What policy.toml says; an absent file is a policy that allows no mount and no open network."""

    mounts: dict[str, Mount] = Field(default_factory=dict)
    network: Network = Network()
    limits: Limits = Limits()
    untrusted: Untrusted = Untrusted()
    machines: dict[str, Machine] = Field(default_factory=dict)
    shares: Shares = Shares()
    images: Images = Images()
    builds: Builds = Builds()

    #: Why this host can't run code that is not trusted; None: it can.
    _sandbox_problem: str | None = PrivateAttr(default_factory=lambda: gvisor.problem({}))

    def learn(self, sandbox_problem: str | None) -> None:
        """What the engine says of gVisor. Before that, the host is taken to have none."""
        self._sandbox_problem = sandbox_problem

    @property
    def sandbox_problem(self) -> str | None:
        return self._sandbox_problem

    @classmethod
    def read(cls, path: Path | None) -> Policy:
        """The policy in `path`. Raises RunnerError naming the file, the key and what it should be."""
        if path is None:
            return cls()
        try:
            policy = cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except OSError as error:
            raise RunnerError(f"policy {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunnerError(f"policy {path}: not TOML: {error}") from None
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given {e['input']!r})" for e in error.errors()]
            raise RunnerError(f"policy {path}: " + "; ".join(lines)) from None
        for name, mount in policy.mounts.items():
            if not mount.path.is_absolute() or not mount.path.is_dir():
                raise RunnerError(
                    f"policy {path}: mounts.{name}.path: {str(mount.path)!r} is not a directory of this host"
                )
        return policy

    def task_memory(self, host: int) -> int:
        """The most memory one task may ask for, where the host gives `host` bytes in all."""
        return min(host, self.limits.memory or host)

    def shares_of(self, memory: int, slots: int) -> WireShares:
        """What projects may hold of `memory` bytes and `slots` runs: what a claim says."""
        usual = _share(self.shares, WireShare.usual(memory, slots), memory, slots)
        projects = {name: _share(share, usual, memory, slots) for name, share in self.shares.projects.items()}
        return WireShares(usual=usual, projects=projects)

    def build_shares(self, builds: int) -> BuildShares:
        """How many of `builds` image builds at a time projects may hold."""
        usual = _builds(self.shares, builds, 1)
        projects = {name: _builds(share, builds, usual) for name, share in self.shares.projects.items()}
        return BuildShares(usual=usual, projects=projects)

    def size(self, options: dict[str, Any]) -> str | None:
        """Puts the memory and cpu of a named machine into a task's options; what is wrong with its name, if so."""
        return sized(options, self.machines)

    def pids(self, limits: TaskLimits) -> int:
        """How many processes and threads a task's container gets."""
        usual = self.untrusted.pids if limits.trust == "untrusted" else USUAL_PIDS
        return limits.pids or min(usual, self.limits.pids or usual)

    def scratch(self, limits: TaskLimits) -> int:
        """Bytes of each scratch file system: half of the memory where the task doesn't say."""
        usual = max(16 * 1024**2, limits.memory // 2)
        if limits.trust == "untrusted":
            usual = min(usual, self.untrusted.scratch)
        return limits.scratch or min(usual, self.limits.scratch or usual)

    def problems(self, project: str, limits: TaskLimits, host_memory: int, host_cpus: int) -> list[FieldProblem]:
        """Why this host will not run a task with `limits`: empty where it will."""
        found: list[FieldProblem] = []

        def refuse(option: str, message: str) -> None:
            found.append(FieldProblem(path=option, message=message))

        most = self.task_memory(host_memory)
        if limits.memory > most:
            refuse(
                "memory", f"{_mib(limits.memory)} is more than a task may have here; ask for at most {_mib(most)}"
            )
        cpus = min(self.limits.cpu or host_cpus, host_cpus)
        if limits.cpu > cpus:
            refuse("cpu", f"{limits.cpu:g} is more than a task may have here; ask for at most {cpus:g}")
        longest = self.limits.timeout
        if longest is not None and limits.timeout > longest:
            refuse("timeout", f"{limits.timeout:g} s is longer than the policy's {longest:g} s")
        most_pids = self.limits.pids or MOST_PIDS
        if limits.pids is not None and limits.pids > most_pids:
            refuse("pids", f"{limits.pids} is more than a task may have here; ask for at most {most_pids}")
        scratch, largest = limits.scratch or 0, self.limits.scratch
        if scratch > limits.memory:
            has = f"the task's memory, {_mib(limits.memory)}, out of which it comes"
            refuse("scratch", f"{_mib(scratch)} is more than {has}")
        if largest is not None and scratch > largest:
            what = f"{_mib(scratch)} is more than a task may have here"
            refuse("scratch", f"{what}; ask for at most {_mib(largest)}")
        self._network(limits.network, refuse)
        if limits.trust == "untrusted":
            self._untrusted(limits, refuse)
        elif limits.trust != "project":
            refuse("trust", f'{limits.trust!r:.100} is none; give "project" or "untrusted"')
        for name, target in limits.mounts.items():
            self._mount(project, name, target, refuse)
        return found

    def _network(self, network: str | list[str], refuse: Any) -> None:
        if isinstance(network, str):
            if network == "open" and not self.network.open:
                refuse(
                    "network",
                    '"open" is not allowed on this host; the operator allows it: policy.toml, [network] '
                    "open = true",
                )
            elif network not in ("none", "public", "open"):
                refuse("network", f'{network!r:.100} is none; give "public", "none", "open" or a list of hosts')
            return
        if len(network) > reach.MOST_HOSTS:
            refuse("network", f"{len(network)} hosts are more than {reach.MOST_HOSTS}")
            return
        private = frozenset(self.network.private)
        for item in network:
            if (wrong := reach.problem(item, private)) is not None:
                refuse("network", wrong)

    def _untrusted(self, limits: TaskLimits, refuse: Any) -> None:
        if self._sandbox_problem is not None:
            refuse("trust", self._sandbox_problem)
        most = self.untrusted
        why = 'is more than a task of trust="untrusted" may have here (policy.toml, [untrusted])'
        for option, asked, allowed, shown in (
            ("memory", limits.memory, most.memory, _mib),
            ("cpu", limits.cpu, most.cpu, _plain),
            ("timeout", limits.timeout, most.timeout, _seconds),
            ("pids", limits.pids or 0, most.pids, _plain),
            ("scratch", limits.scratch or 0, most.scratch, _mib),
        ):
            if asked > allowed:
                refuse(option, f"{shown(asked)} {why}; ask for at most {shown(allowed)}")
        if limits.network in ("open", "public"):
            refuse("network", f'{limits.network!r}: a task of trust="untrusted" reaches only hosts in a list')
        for name in limits.mounts:
            refuse(f"mounts.{name}", 'a task of trust="untrusted" gets no directory of the host')

    def _mount(self, project: str, name: str, target: str, refuse: Any) -> None:
        mount = self.mounts.get(name)
        if mount is None or (mount.projects is not None and project not in mount.projects):
            known = sorted(n for n, m in self.mounts.items() if m.projects is None or project in m.projects)
            refuse(
                f"mounts.{name}",
                f"the policy of this host has no mount {name!r} for project {project!r}; it has: "
                f"{', '.join(known) or 'none'}",
            )
        where = PurePosixPath(target)
        inside_ours = any(where == PurePosixPath(o) or PurePosixPath(o) in where.parents for o in _OURS)
        if not where.is_absolute() or ".." in where.parts or str(where) in _TAKEN or inside_ours:
            refuse(f"mounts.{name}", f"{target!r} is no place to mount at; use a path such as /data")
        elif len(where.parts) > 2 and f"/{where.parts[1]}" in _TAKEN:
            refuse(
                f"mounts.{name}", f"{target!r} is inside a system directory; use a path of its own such as /data"
            )

    def resolve(
        self, project: str, limits: TaskLimits, host_memory: int, host_cpus: int
    ) -> list[tuple[Path, str, bool]]:
        """The mounts of a task as (host path, target, read-only). Raises Rejected where the policy refuses it."""
        found = self.problems(project, limits, host_memory, host_cpus)
        if found:
            raise Rejected("; ".join(f"{p.path}: {p.message}" for p in found))
        mounts = [(self.mounts[name], target) for name, target in sorted(limits.mounts.items())]
        return [(mount.path, target, mount.mode == "ro") for mount, target in mounts]


def _share(share: Share, usual: WireShare, memory: int, slots: int) -> WireShare:
    return WireShare(
        memory=_of(share.memory, memory, usual.memory), slots=max(1, _of(share.slots, slots, usual.slots))
    )


def _builds(share: Share, builds: int, usual: int) -> int:
    # not even a share of all is all: what hangs would be everybody's
    return max(1, min(_of(share.builds, builds, usual), builds - 1))


def _of(given: int | str | None, whole: int, usual: int) -> int:
    if given is None:
        return usual
    return int(whole * float(given.rstrip("%")) / 100) if isinstance(given, str) else min(given, whole)


def _mib(size: float) -> str:
    return f"{size / 1024**2:.0f} MiB"


def _plain(number: float) -> str:
    return f"{number:g}"


def _seconds(number: float) -> str:
    return f"{number:g} s"
