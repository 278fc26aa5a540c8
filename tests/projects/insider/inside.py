"""What a task may try against its container and its host: each in a process of its own, all in one run."""

import ctypes
import errno
import fcntl
import os
import pty
import signal
import socket
import stat
import struct
import time
from pathlib import Path

from samovar import task

LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = ctypes.create_string_buffer(4096)
HERE = ctypes.addressof(PAGE)
PATIENCE = 10.0
ATTEMPTS = {}
TEXTS = []


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def call(number, *arguments):
    """A system call of x86-64, by its number. Raises OSError."""
    ctypes.set_errno(0)
    if LIBC.syscall(*(ctypes.c_long(n) for n in (number, *arguments))) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def text(value: bytes) -> int:
    """The address of a text that stays."""
    TEXTS.append(ctypes.create_string_buffer(value))
    return ctypes.addressof(TEXTS[-1])


def write(path, data=b"1"):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read(path):
    with open(path, "rb") as file:
        if not file.read(1):
            raise Found("empty")


def calls(**numbers):
    for name, arguments in numbers.items():
        ATTEMPTS[name] = lambda arguments=arguments: call(*arguments)


def sockets(**kinds):
    for name, kind in kinds.items():
        ATTEMPTS[name] = lambda kind=kind: socket.socket(*kind).close()


def writes(**paths):
    for name, path in paths.items():
        ATTEMPTS[name] = lambda path=path: write(path)


def reads(**paths):
    for name, path in paths.items():
        ATTEMPTS[name] = lambda path=path: os.listdir(path) if path.endswith("/fd") else read(path)


def connects(**addresses):
    for name, address in addresses.items():
        ATTEMPTS[name] = lambda address=address: reach(*address)


def reach(family, kind, address):
    with socket.socket(family, kind) as one:
        one.settimeout(3)
        one.connect(address)  # of UDP too it sends nothing


calls(
    mount=(165, text(b"none"), text(b"/tmp"), text(b"tmpfs"), 0, 0),
    umount=(166, text(b"/tmp"), 2),
    pivot_root=(155, text(b"/tmp"), text(b"/tmp")),
    chroot=(161, text(b"/tmp")),
    fsopen=(430, text(b"tmpfs"), 0),
    open_tree=(428, -100, text(b"/"), 1),
    move_mount=(429, -1, text(b""), -100, text(b"/tmp"), 4),
    mount_setattr=(442, -100, text(b"/tmp"), 0, HERE, 32),
    unshare_user=(272, 0x10000000),
    unshare_net=(272, 0x40000000),
    unshare_mount=(272, 0x00020000),
    clone_user=(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    clone3=(435, HERE, 88),
    io_uring=(425, 8, HERE),
    aio=(206, 128, HERE),
    bpf=(321, 0, HERE, 64),
    keyctl=(250, 0, -3, 1),
    add_key=(248, text(b"user"), text(b"k"), text(b"v"), 1, -3),
    request_key=(249, text(b"user"), text(b"k"), 0, -3),
    userfaultfd=(323, 1),
    perf_event_open=(298, HERE, 0, -1, -1, 0),
    ptrace_self=(101, 0, 0, 0, 0),
    ptrace_one=(101, 0x4206, 1, 0, 0),
    process_vm_readv=(310, 1, HERE, 1, HERE, 1, 0),
    process_vm_writev=(311, 1, HERE, 1, HERE, 1, 0),
    kcmp=(312, 1, os.getpid(), 0, 0, 0),
    mbind=(237, HERE & ~4095, 4096, 0, 0, 0, 0),
    set_mempolicy=(238, 1, 0, 0),
    move_pages=(279, 1, 0, 0, 0, 0, 0),
    migrate_pages=(256, 1, 0, 0, 0),
    name_to_handle_at=(303, -100, text(b"/"), HERE, HERE, 0),
    open_by_handle_at=(304, -100, HERE, 0),
    fanotify_init=(300, 0, 0),
    quotactl=(179, 0, 0, 0, 0),
    syslog=(103, 3, HERE, 4096),
    reboot=(169, 0xFEE1DEAD, 672274793, 0, 0),
    sethostname=(170, text(b"x"), 1),
    settimeofday=(164, HERE, 0),
    swapon=(167, text(b"/tmp/x"), 0),
    init_module=(175, HERE, 16, text(b"")),
    finit_module=(313, 0, text(b""), 0),
    kexec_load=(246, 0, 0, 0, 0),
    acct=(163, text(b"/tmp/x")),
    iopl=(172, 3),
    modify_ldt=(154, 0, HERE, 16),
    personality_no_randomisation=(135, 0x0040000),
    sync=(162,),
    vmsplice=(278, 1, HERE, 0, 0),
    shmget=(29, 0, 4096, 0o1600),
    semget=(64, 0, 1, 0o1600),
    msgget=(68, 0, 0o1600),
    mq_open=(240, text(b"q"), 0o102, 0o600, 0),
    prlimit_one=(302, 1, 5, text(struct.pack("QQ", 1 << 40, 1 << 40)), 0),
    setuid_root=(105, 0),
    setgid_root=(106, 0),
    setgroups_root=(116, 1, text(struct.pack("I", 0))),
)
sockets(
    vsock=(40, socket.SOCK_STREAM),
    alg=(38, socket.SOCK_SEQPACKET),
    packet=(17, socket.SOCK_RAW, 0x300),
    raw_ip=(socket.AF_INET, socket.SOCK_RAW, 1),
    raw_ip6=(socket.AF_INET6, socket.SOCK_RAW, 58),
    ping=(socket.AF_INET, socket.SOCK_DGRAM, 1),
    sctp=(socket.AF_INET, socket.SOCK_STREAM, 132),
    mptcp=(socket.AF_INET, socket.SOCK_STREAM, 262),
    mptcp6=(socket.AF_INET6, socket.SOCK_STREAM, 262),
    udplite=(socket.AF_INET, socket.SOCK_DGRAM, 136),
    netlink_netfilter=(16, socket.SOCK_RAW, 12),
    netlink_generic=(16, socket.SOCK_RAW, 16),
    netlink_audit=(16, socket.SOCK_RAW, 9),
    netlink_uevent=(16, socket.SOCK_RAW, 15),
    netlink_xfrm=(16, socket.SOCK_RAW, 6),
    tipc=(30, socket.SOCK_RAW),
    bluetooth=(31, socket.SOCK_RAW, 1),
    can=(29, socket.SOCK_RAW, 1),
    xdp=(44, socket.SOCK_RAW),
    rds=(21, socket.SOCK_SEQPACKET),
)
reads(
    one_memory="/proc/1/mem",
    one_environment="/proc/1/environ",
    one_descriptors="/proc/1/fd",
    one_maps="/proc/1/maps",
    one_root="/proc/1/root/etc/passwd",
    kernel_memory="/proc/kcore",
    kernel_messages="/dev/kmsg",
    physical_memory="/dev/mem",
    kernel_keys="/proc/keys",
    scheduler_debug="/proc/sched_debug",
    engine_data="/var/lib/docker/engine-id",
    shadow="/etc/shadow",
)
writes(
    one_oom="/proc/1/oom_score_adj",
    core_pattern="/proc/sys/kernel/core_pattern",
    drop_caches="/proc/sys/vm/drop_caches",
    ip_forward="/proc/sys/net/ipv4/ip_forward",
    modprobe="/proc/sys/kernel/modprobe",
    sysrq="/proc/sysrq-trigger",
    uevent_helper="/sys/kernel/uevent_helper",
    power="/sys/power/state",
    release_agent="/sys/fs/cgroup/memory/release_agent",
    own_limit="/sys/fs/cgroup/memory/memory.limit_in_bytes",
    uid_map="/proc/self/uid_map",
)
connects(
    metadata=(socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)),
    metadata6=(socket.AF_INET6, socket.SOCK_STREAM, ("fd00:ec2::254", 80)),
    gateway=(socket.AF_INET, socket.SOCK_STREAM, ("172.17.0.1", 2375)),
    neighbours=(socket.AF_INET, socket.SOCK_STREAM, ("10.0.0.1", 22)),
    name_server=(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.53", 53)),
    docker_socket=(socket.AF_UNIX, socket.SOCK_STREAM, "/var/run/docker.sock"),
    containerd_socket=(socket.AF_UNIX, socket.SOCK_STREAM, "/run/containerd/containerd.sock"),
    control_socket=(socket.AF_UNIX, socket.SOCK_STREAM, "/run/samovar/control.sock"),
    second_connection=(socket.AF_UNIX, socket.SOCK_STREAM, "/run/samovar/sidecar.sock"),
)


@attempt
def setns():
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    call(308, descriptor, 0)


@attempt
def pidfd_getfd():
    call(438, os.pidfd_open(1), 0, 0)


@attempt
def zygote_memory():
    read(f"/proc/{zygote}/mem")


@attempt
def ptrace_zygote():
    call(101, 0x4206, zygote, 0, 0)


@attempt
def mknod_device():
    os.mknod("/tmp/memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))


@attempt
def mknod_disk():
    os.mknod("/tmp/disk", stat.S_IFBLK | 0o666, os.makedev(254, 0))


@attempt
def chown_root():
    Path("/tmp/owned").touch()
    os.chown("/tmp/owned", 0, 0)


@attempt
def write_root():
    Path("/etc/cron.d/x").write_text("x")


@attempt
def message_queue_files():
    Path("/dev/mqueue/left").touch()


@attempt
def type_into_terminal():
    _, side = pty.openpty()
    fcntl.ioctl(side, 0x5412, b"x")


@attempt
def line_discipline():
    _, side = pty.openpty()
    fcntl.ioctl(side, 0x5423, struct.pack("i", 21))


@attempt
def line_discipline_with_high_bits():
    _, side = pty.openpty()
    call(16, side, 0x5423 | 1 << 32, HERE)


@attempt
def upper_protocol():
    with socket.socket() as one:
        one.setsockopt(socket.IPPROTO_TCP, 31, b"tls")


@attempt
def socket_filter():
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, HERE))


@attempt
def mptcp_with_high_bits():
    call(41, socket.AF_INET, socket.SOCK_STREAM, 262 | 1 << 32)


@attempt
def old_system_calls():
    """int 0x80: the calls of 32 bits."""
    import mmap

    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
    made = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    if (answer := made()) < 0:
        raise OSError(-answer, "")


@attempt
def x32_system_calls():
    call(0x40000000 | 39)


@attempt
def names():
    socket.getaddrinfo("metadata.google.internal", 80)


@attempt
def other_abstract_sockets():
    """Those of the host's, were the network its own: names that begin with @ and are not ours."""
    with open("/proc/net/unix") as file:
        found = [line.split()[-1] for line in file if line.split()[-1].startswith("@")]
    raise Found(f"{len(found)} in sight")


@attempt
def other_interfaces():
    raise Found(" ".join(sorted(name for _, name in socket.if_nameindex())))


@attempt
def other_processes():
    mine = {1, zygote, os.getpid(), os.getppid()}
    found = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in mine]
    raise Found(f"{len(found)} in sight")


@attempt
def stolen_descriptor():
    """Whether anything here leads to the sidecar."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                found += one.family == socket.AF_UNIX and "sidecar" in str(one.getpeername())
        except OSError:
            continue
    raise Found(f"{found} in sight")


@attempt
def setuid_programs():
    """A file with the bit, run: it would say 0."""
    seen = set()
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib"):
        for path in Path(folder).rglob("*"):
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                seen.add(path.name)
    status = Path("/proc/self/status").read_text()
    raise Found("without effect" if "NoNewPrivs:\t1" in status else " ".join(sorted(seen)) or "none")


@attempt
def capabilities():
    status = Path("/proc/self/status").read_text().splitlines()
    raise Found(" ".join({line.split()[1] for line in status if line.startswith("Cap")}))


@attempt
def core_dump():
    import resource

    raise Found(str(resource.getrlimit(resource.RLIMIT_CORE)[1]))


class Found(Exception):
    """What was seen, where that is the answer."""


def tried(function) -> str:
    """What a process of its own comes to: "allowed", an errno's name, what it found, or how it died."""
    out, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "allowed"
        try:
            function()
        except OSError as error:
            known = error.errno in errno.errorcode and not isinstance(error, socket.gaierror)
            answer = errno.errorcode[error.errno] if known else type(error).__name__
        except Found as found:
            answer = str(found)
        except BaseException as error:
            answer = repr(error)[:200]
        os.write(end, answer.encode())
        os._exit(0)
    os.close(end)
    deadline = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.001)
    if not ended[0]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "hangs"
    os.set_blocking(out, False)
    with open(out, "rb", buffering=0) as answer:
        said = (answer.read(4096) or b"").decode()
    return said or signal.Signals(os.WTERMSIG(ended[1])).name


zygote = 0


@task
def try_everything() -> dict:
    global zygote
    zygote = os.getppid()
    return {name: tried(function) for name, function in ATTEMPTS.items()}
