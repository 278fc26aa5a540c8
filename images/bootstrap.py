"""A base image from Debian packages, for hosts that reach no registry: mmdebstrap, made small, imported."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from images.docker_builder import Builder
from images.errors import BaseError
from images.host import debian_mirror, host_network
from images.lines import Log

SUITE = "bookworm"
#: The Python of that Debian.
PYTHON = "3.11"
IMAGE = f"samovar/base:{SUITE}"

#: With usr-is-merged, since what is installed in its place without it needs Perl.
_PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates", "tzdata", "usr-is-merged")
#: Makes /bin and its like links into /usr before anything is unpacked.
_MERGED = "/usr/share/mmdebstrap/hooks/merged-usr"
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
    """Make IMAGE. Needs root and mmdebstrap; raises BaseError saying what is missing or what went wrong."""
    _require()
    mirror = debian_mirror()
    began = time.monotonic()
    log(f"making {IMAGE} from Debian {SUITE} packages; this is done once on a host and takes about a minute")
    work = Path(tempfile.mkdtemp(prefix="samovar-base-"))
    try:
        # apt fetches as a user of its own
        work.chmod(0o711)
        root = work / "root"
        try:
            _install(root, mirror, log, security=True)
        except BaseError as error:
            if mirror is None:
                raise
            # a mirror may have the distribution alone
            log(f"without security updates: {error.problem.message}")
            _remove(root)
            _install(root, mirror, log, security=False)
        _configure(root, mirror)
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
        missing.append("to be run by root (mmdebstrap is, to give files their owners)")
    if shutil.which("mmdebstrap") is None:
        missing.append("mmdebstrap (on Debian and Ubuntu: apt-get install mmdebstrap)")
    if not _KEYRING.is_file():
        missing.append("Debian's archive keys (on Debian and Ubuntu: apt-get install debian-archive-keyring)")
    if missing:
        raise BaseError(
            "no registry answers for Python's official image, and to make a base image from Debian packages "
            f"needs {', and '.join(missing)}; or load an image with Python into Docker and name it with "
            'base = "…" in samovar.toml'
        )


def _install(root: Path, mirror: str | None, log: Log, *, security: bool) -> None:
    """Debian in the directory `root`: of `mirror`, or where that is None of mmdebstrap's own with all updates."""
    bundle = host_network().bundle
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--hook-dir={_MERGED}",
        f"--include={','.join(_PACKAGES)}",
        f"--architectures={_architecture()}",
        *(f"--dpkgopt={line}" for line in _POLICY.splitlines()),
        '--aptopt=Acquire::Languages "none"',
        # a mirror that is not there need not be asked four times
        '--aptopt=Acquire::Retries "1"',
        # for a mirror behind a private authority
        *([f'--aptopt=Acquire::https::CAInfo "{bundle}"'] if bundle else []),
        SUITE,
        str(root),
        *_sources(mirror, f"[signed-by={_KEYRING}] ", security=security),
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
    for line in process.stdout:
        text = line.rstrip()
        tail = [*tail[-19:], text]
        if text.startswith("I: "):
            log(text.removeprefix("I: "))
    code = process.wait()
    if code == 124:
        raise BaseError(f"mmdebstrap was not done within {_TIME_LIMIT // 60} minutes; is {where} slow?")
    if code != 0:
        errors = [text for text in tail if text.startswith(("E:", "Err:"))] or tail[-3:]
        raise BaseError(f"mmdebstrap failed with {where} (exit code {code}): {' / '.join(errors)}")


def _sources(mirror: str | None, option: str = "", *, security: bool = True) -> list[str]:
    """apt's lines for `mirror`; none where it is None."""
    if mirror is None:
        return []
    archive = mirror.rsplit("/debian", 1)[0] + "/debian-security"
    main = f"deb {option}{mirror} {SUITE} main"
    updates = [f"deb {option}{mirror} {SUITE}-updates main", f"deb {option}{archive} {SUITE}-security main"]
    return [main, *updates] if security else [main]


def _architecture() -> str:
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine()
    if machine not in known:
        raise BaseError(f'no base image can be made on {machine}; name one with base = "…" in samovar.toml')
    return known[machine]


def _configure(root: Path, mirror: str | None) -> None:
    # what mmdebstrap wrote there names this host's certificates
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    (root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink(missing_ok=True)
    (root / "etc/dpkg/dpkg.cfg.d/samovar").write_text(_POLICY)
    (root / "etc/apt/apt.conf.d/99samovar").write_text(
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAPT::Keep-Downloaded-Packages "false";\n'
    )
    if mirror is not None:
        # and names this host's keys; an image with no security updates can still get them
        for file in (root / "etc/apt/sources.list.d").iterdir():
            file.unlink()
        (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in _sources(mirror)))


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
    # mmdebstrap mounts /proc, /sys and /dev inside; a failed one may leave them, and rmtree must not walk into them
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{work}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(work, ignore_errors=True)
