"""Tasks that look around in their container and say what they find."""

import ctypes
import errno
import os
import pwd
import resource
import socket
import stat
from pathlib import Path

from samovar import task

PATHS = ("/x", "/app/x", "/etc/x", "/opt/samovar/x", "/usr/x", "/run/samovar/x", "/tmp/x", "/dev/shm/x")
_LIBC = ctypes.CDLL(None, use_errno=True)


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def attempt(action) -> str:
    """ "allowed", or the name of the error."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno)) if error.errno else type(error).__name__
    return "allowed"


def syscall(number: int, *arguments: int) -> str:
    ctypes.set_errno(0)
    if _LIBC.syscall(number, *arguments) >= 0:
        return "allowed"
    return errno.errorcode.get(ctypes.get_errno(), "?")


def write(path: str) -> str:
    def do() -> None:
        with open(path, "w") as handle:
            handle.write("x")

    return attempt(do)


@task
def look() -> dict:
    """Everything the isolation promises, as this process sees it."""
    process_one = {name: attempt(Path("/proc/1", name).read_bytes) for name in ("environ", "mem", "maps", "auxv")}
    process_one["fd"] = attempt(lambda: os.listdir("/proc/1/fd"))
    process_one["root"] = attempt(lambda: os.listdir("/proc/1/root"))
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    sockets = []
    for folder, below, files in os.walk("/"):
        if folder == "/":
            below[:] = [name for name in below if name not in ("proc", "sys")]
        sockets += [f"{folder}/{name}" for name in files if stat.S_ISSOCK(os.lstat(f"{folder}/{name}").st_mode)]
    return {
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "uid": os.getuid(),
        "user": [pwd.getpwuid(os.getuid()).pw_name, pwd.getpwuid(os.getuid()).pw_dir],
        "gids": os.getgroups(),
        "environment": dict(os.environ),
        "process_one": process_one,
        "capabilities": {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
        "sockets": sockets,
        "second_connection": second_connection(),
        "writes": {
            path: write(path)
            for path in (
                "/x",
                "/app/x",
                "/etc/x",
                "/opt/samovar/x",
                "/usr/x",
                "/run/samovar/x",
                "/tmp/x",
                "/dev/shm/x",
                os.path.expanduser("~/x"),
            )
        },
        "setuid_files": setuid_files(),
        "syscalls": {
            "io_uring_setup": syscall(425, 8, 0),
            "ptrace": syscall(101, 0, 0, 0, 0),
            "shmget": syscall(29, 0, 4096, 0o1600),
            "msgget": syscall(68, 0, 0o1600),
            "mq_open": syscall(240, 0, 0o102, 0o600, 0),
            "unshare": syscall(272, 0x10000000),
            "bpf": syscall(321, 0, 0, 0),
            "userfaultfd": syscall(323, 0),
            "keyctl": syscall(250, 0, 0, 0, 0, 0),
            "mount": syscall(165, 0, 0, 0, 0, 0),
        },
        "vsock": attempt(lambda: socket.socket(40, socket.SOCK_STREAM)),
        "outside": attempt(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
        "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[1],
    }


def second_connection() -> str:
    """What a task gets that speaks to the sidecar behind its harness's back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect("/run/samovar/sidecar.sock")
            connection.sendall(b'{"id":1,"type":"hello","protocol":1,"attempt":null}\n')
            return "answered" if connection.recv(100) else "closed"
        except OSError as error:
            return type(error).__name__


def setuid_files() -> list[str]:
    found = []
    for folder in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        for path in Path(folder).iterdir():
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(str(path))
    return found


@task
def search_for(secret_halves: list[str]) -> list[str]:
    """Files, environments and command lines that hold a string; given in halves, so as not to hold it itself."""
    needle = "".join(secret_halves).encode()
    places = [*Path("/proc").glob("[0-9]*/environ"), *Path("/proc").glob("[0-9]*/cmdline")]
    for folder in ("/run", "/tmp", "/app", "/etc", "/opt/samovar", "/home", "/root", "/dev/shm", "/var/lib"):
        places += [p for p in Path(folder).rglob("*") if p.is_file() and p.stat().st_size < 5_000_000]
    return [str(p) for p in places if needle in readable(p)]


@task
def globals_of_last_run(mark: str) -> dict:
    """Leaves marks in every place a run could, and says which marks it found there."""
    import sys

    found = {
        "tmp": Path("/tmp/mark").exists(),
        "home": (Path.home() / "mark").exists(),
        "shm": Path("/dev/shm/mark").exists(),
        "module": getattr(sys, "mark", None) is not None,
        "environment": "MARK" in os.environ,
    }
    sys.mark = mark
    os.environ["MARK"] = mark
    for path in (Path("/tmp/mark"), Path.home() / "mark", Path("/dev/shm/mark")):
        path.write_text(mark)
    return found
