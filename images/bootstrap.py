"""A base image from Debian packages, for hosts that reach no registry: debootstrap, made small, imported."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from images.docker_builder import Builder
from images.errors import BaseError
from images.host import debian_mirror, host_network
from images.lines import Log

SUITE = "bookworm"
#: The Python of that Debian.
PYTHON = "3.11"
IMAGE = f"samovar/base:{SUITE}"

_PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates", "tzdata")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: Seconds; on a slow line the packages (about 60 MB) take the most of it.
_TIME_LIMIT = 20 * 60

#: What a container of a task never reads. Copyright files stay: their licences ask for it.
_NEEDLESS = (
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc-base",
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/log",
    "tmp",
    "run",
)

_POLICY = """\
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/info/*
"""


def make(builder: Builder, *, labels: dict[str, str], log: Log) -> None:
    """Make IMAGE. Needs root and debootstrap; raises BaseError saying what is missing or what went wrong."""
    _require()
    mirror = debian_mirror()
    began = time.monotonic()
    log(f"making {IMAGE} from Debian {SUITE} packages; this is done once on a host and takes a minute or two")
    work = Path(tempfile.mkdtemp(prefix="samovar-base-"))
    try:
        root = work / "root"
        for line in _debootstrap(root, mirror):
            log(line)
        _configure(root)
        log("installing security updates")
        if problem := _upgrade(root):
            log(f"without them: {problem}")
        _shrink(root)
        archive = work / "root.tar"
        log("packing")
        _pack(root, archive)
        changes = [f'LABEL {name}="{value}"' for name, value in labels.items()]
        changes += ["ENV LANG=C.UTF-8", 'CMD ["python3"]']
        old = builder.image_id(IMAGE)
        builder.import_tar(archive, IMAGE, changes=changes)
        if old is not None and old != builder.image_id(IMAGE):
            # untagged now; it goes unless an image of a project is built on it
            builder.remove_image(old)
        size = archive.stat().st_size // 1024**2
        log(f"{IMAGE} is ready: {size} MiB, {time.monotonic() - began:.0f} s")
    finally:
        _remove(work)


def _require() -> None:
    missing = []
    if os.geteuid() != 0:
        missing.append("to be run by root (debootstrap needs it)")
    if shutil.which("debootstrap") is None:
        missing.append("debootstrap (on Debian and Ubuntu: apt-get install debootstrap)")
    if not _KEYRING.is_file():
        missing.append("Debian's archive keys (on Debian and Ubuntu: apt-get install debian-archive-keyring)")
    if missing:
        raise BaseError(
            "no registry answers for Python's official image, and to make a base image from Debian packages "
            f"needs {', and '.join(missing)}; or load an image with Python into Docker and name it with "
            'base = "…" in samovar.toml'
        )


def _debootstrap(root: Path, mirror: str | None) -> Iterator[str]:
    command = [
        "debootstrap",
        "--variant=minbase",
        "--force-check-gpg",
        f"--keyring={_KEYRING}",
        f"--include={','.join(_PACKAGES)}",
        f"--arch={_architecture()}",
        SUITE,
        str(root),
        # debootstrap knows a mirror of its own
        *([mirror] if mirror else []),
    ]
    where = f"the mirror {mirror}" if mirror else "its default mirror"
    process = subprocess.Popen(
        ["timeout", "--kill-after=10", str(_TIME_LIMIT), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(),
    )
    assert process.stdout is not None, "a pipe was asked for"
    tail: list[str] = []
    seen: dict[str, int] = {}
    for line in process.stdout:
        text = line.rstrip()
        tail = [*tail[-19:], text]
        word = " ".join(text.split()[:2])
        seen[word] = seen.get(word, 0) + 1
        # two lines for each of a hundred packages say less than one for every step and every 25 packages
        if seen[word] == 1 and word != "I: Validating" and len(seen) < 200:
            yield text.removeprefix("I: ")
        elif seen[word] % 25 == 0 and word in {"I: Retrieving", "I: Unpacking", "I: Configuring"}:
            yield f"{word.removeprefix('I: ')}: {seen[word]} packages"
    code = process.wait()
    if code == 124:
        raise BaseError(f"debootstrap was not done within {_TIME_LIMIT // 60} minutes; is {where} slow?")
    if code != 0:
        errors = [text for text in tail if text.startswith(("E:", "W:"))] or tail[-3:]
        raise BaseError(f"debootstrap failed with {where} (exit code {code}): {' / '.join(errors)}")


def _architecture() -> str:
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine()
    if machine not in known:
        raise BaseError(f'no base image can be made on {machine}; name one with base = "…" in samovar.toml')
    return known[machine]


def _configure(root: Path) -> None:
    # what debootstrap wrote there names the mirror that it used
    mirror = (root / "etc/apt/sources.list").read_text().split()[1].rstrip("/")
    (root / "etc/dpkg/dpkg.cfg.d/samovar").write_text(_POLICY)
    (root / "etc/apt/apt.conf.d/99samovar").write_text(
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAPT::Keep-Downloaded-Packages "false";\n'
    )
    security = mirror.rsplit("/debian", 1)[0] + "/debian-security"
    (root / "etc/apt/sources.list").write_text(
        f"deb {mirror} {SUITE} main\ndeb {mirror} {SUITE}-updates main\ndeb {security} {SUITE}-security main\n"
    )


def _upgrade(root: Path) -> str | None:
    """Bring the packages up to date, which the mirror's main archive is not; gives what was in the way."""
    options = ["-q", "-y", "-o", "Dpkg::Use-Pty=0"]
    bundle = host_network().bundle
    if bundle is not None:
        # for a mirror behind a private authority; /tmp is emptied later
        shutil.copyfile(bundle, root / "tmp/ca.pem")
        options += ["-o", "Acquire::https::CAInfo=/tmp/ca.pem"]
    for verb in ("update", "dist-upgrade"):
        try:
            done = subprocess.run(
                ["chroot", str(root), "apt-get", *options, verb],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=_environment(),
                timeout=_TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"apt-get {verb} took longer than {_TIME_LIMIT // 60} minutes"
        if done.returncode != 0:
            return " / ".join(done.stdout.splitlines()[-3:])
    return None


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    return {**kept, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _shrink(root: Path) -> None:
    for name in _NEEDLESS:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for file in (root / "usr/share/doc").glob("*/*"):
        if file.name != "copyright":
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
    # none of these is of the image: Docker writes them for each container, or they name this host
    (root / "etc/hostname").write_text("")
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/machine-id").write_text("")


def _pack(root: Path, archive: Path) -> None:
    # times stay as the packages have them: Python's byte code is good only for a source of the time it names
    subprocess.run(
        [
            "tar",
            "--create",
            f"--file={archive}",
            f"--directory={root}",
            "--numeric-owner",
            "--sort=name",
            "--exclude=./dev/*",
            "--exclude=./proc/*",
            "--exclude=./sys/*",
            ".",
        ],
        check=True,
    )


def _remove(work: Path) -> None:
    # debootstrap mounts /proc and /sys inside; a failed one may leave them, and rmtree must not walk into them
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{work}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(work, ignore_errors=True)
