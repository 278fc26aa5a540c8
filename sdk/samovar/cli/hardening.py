"""What of a Docker Engine bears on how well containers hold: for `samovar doctor`, out of what the engine tells."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from samovar.values.units import format_memory

_GIB = 1024**3
Version = tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Flaw:
    """A way out of containers, or of what the engine promises.

    `fixed`: for each series, the first version without it. Older series have it, newer ones have not.
    """

    id: str
    what: str
    fixed: tuple[Version, ...]


#: By the component's name as the engine has it.
KNOWN: dict[str, tuple[Flaw, ...]] = {
    "runc": (
        Flaw("CVE-2019-5736", "a container overwrites runc on the host", ((1, 0, 0),)),
        Flaw("CVE-2021-30465", "mounts lead out of the container", ((1, 0, 0),)),
        Flaw("CVE-2023-27561", "mounts of /proc lead around AppArmor and SELinux", ((1, 1, 5),)),
        Flaw("CVE-2024-21626", "a leaked descriptor leads to the host's files", ((1, 1, 12),)),
        Flaw("CVE-2024-45310", "empty files are made on the host", ((1, 1, 14),)),
        Flaw("CVE-2025-31133", "masked paths can be mounted over", ((1, 2, 8), (1, 3, 3))),
        Flaw("CVE-2025-52565", "/dev/console can be mounted over", ((1, 2, 8), (1, 3, 3))),
        Flaw("CVE-2025-52881", "writes to /proc can be redirected", ((1, 2, 8), (1, 3, 3))),
    ),
    "containerd": (
        Flaw("CVE-2020-15257", "abstract sockets of shims are open to host networks", ((1, 3, 9), (1, 4, 3))),
        Flaw("CVE-2022-23648", "images read the host's files", ((1, 4, 13), (1, 5, 10), (1, 6, 1))),
        Flaw("CVE-2024-25621", "its directories are too open", ((1, 7, 29), (2, 0, 7), (2, 1, 5))),
    ),
    "Engine": (
        Flaw("CVE-2021-41091", "its data directory is too open", ((20, 10, 9),)),
        Flaw(
            "CVE-2024-41110",
            "authorisation plugins can be passed by",
            ((23, 0, 15), (25, 0, 6), (26, 1, 5), (27, 1, 1)),
        ),
    ),
}


def version_of(text: str) -> Version:
    """The numbers that a version begins with: "1.1.5+ds1" → (1, 1, 5). Empty where there are none."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def has(flaw: Flaw, version: Version) -> bool:
    """Whether a version has a flaw, as far as its numbers tell."""
    of_series = [fixed for fixed in flaw.fixed if fixed[:2] == version[:2]]
    if of_series:
        return version < of_series[0]
    return version < flaw.fixed[-1]


def components(version: dict[str, Any]) -> Iterator[Check]:
    """Runtime versions with known ways out."""
    found = {c.get("Name"): c for c in version.get("Components") or []}
    for name, flaws in KNOWN.items():
        part = found.get(name)
        shown = "docker engine" if name == "Engine" else name
        if part is None:
            yield Check(shown, "warn", "the engine does not say which version it has", "look at `docker version`")
            continue
        text = str(part.get("Version", ""))
        numbers = version_of(text)
        known = [flaw for flaw in flaws if numbers and has(flaw, numbers)]
        if not numbers:
            yield Check(shown, "warn", f"version {text!r:.60} can't be read", "look at `docker version`")
        elif not known:
            yield Check(shown, "ok", f"{text}, without known ways out")
        else:
            newest = ".".join(map(str, max(flaw.fixed[-1] for flaw in known)))
            listed = "; ".join(f"{flaw.id} ({flaw.what})" for flaw in known)
            build = str((part.get("Details") or {}).get("GitCommit", ""))
            note = ""
            if re.search(r"(deb|dfsg|ds\d|ubuntu|el\d|fc\d|amzn)", f"{text} {build}"):
                note = (
                    f"; {build or text} is a distribution's, which may have mended them: ask its security tracker"
                )
            yield Check(shown, "warn", f"{text} has {listed}", f"update {name} to {newest} or later{note}")


def engine(info: dict[str, Any]) -> Iterator[Check]:
    """What the engine is set to, and what it has."""
    security = [str(option) for option in info.get("SecurityOptions") or []]
    yield _cgroups(info)
    if any("name=userns" in option or "name=rootless" in option for option in security):
        yield Check("user namespaces", "ok", "root in a container is nobody on the host")
    else:
        yield Check(
            "user namespaces",
            "warn",
            "root in a container would be root on the host; no task is root, but builds have steps that are",
            'set "userns-remap": "default" in /etc/docker/daemon.json and restart Docker (it then has new images)',
        )
    if info.get("LiveRestoreEnabled"):
        yield Check("live restore", "ok", "containers go on while Docker is restarted")
    else:
        yield Check(
            "live restore",
            "warn",
            "a restart of Docker ends every run, which then resumes from its checkpoints",
            'set "live-restore": true in /etc/docker/daemon.json and reload Docker',
        )
    if any("name=apparmor" in option or "name=selinux" in option for option in security):
        yield Check("apparmor", "ok", "containers have a profile of AppArmor or SELinux besides seccomp")
    else:
        yield Check(
            "apparmor",
            "warn",
            "neither AppArmor nor SELinux confines containers; seccomp and capabilities do",
            "use a kernel with AppArmor (Debian, Ubuntu) or SELinux (Fedora, RHEL)",
        )
    yield _gvisor(info)
    yield from _disk(info)


def _cgroups(info: dict[str, Any]) -> Check:
    version = str(info.get("CgroupVersion") or "1")
    if version == "2":
        return Check("cgroups", "ok", "version 2")
    return Check(
        "cgroups",
        "warn",
        f"version {version}: memory and I/O are limited less exactly, and a run's peak is a guess",
        "boot with systemd.unified_cgroup_hierarchy=1, or use a distribution of 2021 or later",
    )


def _gvisor(info: dict[str, Any]) -> Check:
    runtime = (info.get("Runtimes") or {}).get("runsc")
    if runtime is None:
        return Check(
            "gvisor",
            "warn",
            'the engine has no runtime "runsc": tasks of trust="untrusted" are refused',
            'where you want such, install runsc and name it under "runtimes" in /etc/docker/daemon.json',
        )
    arguments = [str(argument) for argument in runtime.get("runtimeArgs") or []]
    if any("ignore-cgroups" in argument and not argument.endswith("=false") for argument in arguments):
        return Check(
            "gvisor",
            "warn",
            "runsc is told to ignore cgroups, so the runner has to watch the memory of sandboxes",
            "leave out --ignore-cgroups where it starts without",
        )
    return Check("gvisor", "ok", "runsc is there")


def _disk(info: dict[str, Any]) -> Iterator[Check]:
    root = Path(str(info.get("DockerRootDir") or "/var/lib/docker"))
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return  # of another machine, or not to be seen
    enough = usage.free >= max(5 * _GIB, usage.total // 20)
    yield Check(
        "engine's disk",
        "ok" if enough else "warn",
        f"{format_memory(usage.free)} free at {root}",
        "" if enough else "remove what nobody needs (docker system df), or give Docker a larger disk",
    )
