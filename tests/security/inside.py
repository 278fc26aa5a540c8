"""What tests/projects/insider tries from inside a run, what holds it, and what it comes to on runc and in gVisor.

In gVisor a system call is answered by the sandbox's own kernel: what that grants, it grants of itself, in a
container that has one run. `OWN` stands for that; everything else has to be refused there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.stack import Stack

SECCOMP = "seccomp profile"
#: Errnos by which a kernel says no, one way or another.
NO = frozenset(
    (
        *("EPERM", "EACCES", "ENOSYS", "ENODEV", "EINVAL", "ENOENT", "EROFS", "ENOTSUP", "ENOTTY", "EBADF"),
        *("EAFNOSUPPORT", "EPROTONOSUPPORT"),
    )
)
NO_NETWORK = frozenset({"ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL"})
OWN = "granted, of the sandbox alone"


@dataclass(frozen=True)
class Tried:
    """One attempt: what it comes to on runc, and in gVisor (None: refused in one of the ways of NO)."""

    name: str
    tried: str
    control: str
    answers: frozenset[str]
    #: OWN, or what has to be found; None: refused.
    runsc: str | frozenset[str] | None = None

    @property
    def in_gvisor(self) -> frozenset[str]:
        """What it may come to in gVisor; empty: anything."""
        if self.runsc == OWN:
            return frozenset()
        if self.runsc is None:
            return NO
        return frozenset({self.runsc}) if isinstance(self.runsc, str) else self.runsc

    @property
    def told(self) -> str:
        """The same for the page."""
        if self.runsc == OWN:
            return OWN
        return "refused" if self.runsc is None else ", ".join(sorted(self.in_gvisor))


def _group(
    control: str, answers: str, attempts: dict[str, str], runsc: str | frozenset[str] | None = None
) -> list[Tried]:
    expected = frozenset(answer.strip() for answer in answers.split(","))
    return [Tried(name, tried, control, expected, runsc) for name, tried in attempts.items()]


ALL = [
    *_group(SECCOMP, "EPERM", {
        "mount": "mount a tmpfs over /tmp",
        "umount": "unmount /tmp",
        "pivot_root": "pivot_root",
        "chroot": "chroot",
        "fsopen": "the mount API: fsopen",
        "open_tree": "the mount API: open_tree",
        "move_mount": "the mount API: move_mount",
        "mount_setattr": "the mount API: mount_setattr",
        "unshare_net": "unshare the network",
        "setns": "setns into a namespace",
        "bpf": "load a BPF program",
        "keyctl": "join a keyring",
        "add_key": "add a key",
        "request_key": "request a key",
        "userfaultfd": "userfaultfd",
        "perf_event_open": "perf_event_open",
        "ptrace_one": "ptrace process 1",
        "ptrace_zygote": "ptrace the zygote",
        "process_vm_readv": "read process 1's memory",
        "process_vm_writev": "write process 1's memory",
        "pidfd_getfd": "take a descriptor out of process 1",
        "kcmp": "compare kernel objects of process 1",
        "move_pages": "move pages of another process",
        "migrate_pages": "migrate pages of another process",
        "name_to_handle_at": "name_to_handle_at",
        "open_by_handle_at": "open_by_handle_at",
        "fanotify_init": "watch a whole file system",
        "quotactl": "disk quotas",
        "reboot": "reboot the host",
        "sethostname": "set the host name",
        "settimeofday": "set the clock",
        "swapon": "swap to a file",
        "init_module": "load a kernel module",
        "finit_module": "load a kernel module by descriptor",
        "kexec_load": "load another kernel",
        "acct": "process accounting",
        "iopl": "I/O ports",
        "modify_ldt": "modify_ldt",
        "personality_no_randomisation": "switch address randomisation off",
        "vmsplice": "vmsplice",
    }),
    *_group(SECCOMP, "EPERM", {
        "unshare_user": "unshare the users",
        "unshare_mount": "unshare the mounts",
        "clone_user": "clone into a user namespace",
        "io_uring": "io_uring_setup",
        "aio": "kernel AIO, of which the host has one count",
        "ptrace_self": "ptrace: be traced",
        "mbind": "bind memory to a node",
        "set_mempolicy": "set a memory policy",
        "syslog": "read the kernel's messages",
        "sync": "sync every file system of the host",
        "shmget": "SysV shared memory",
        "semget": "SysV semaphores",
        "msgget": "SysV message queues",
        "mq_open": "POSIX message queues",
        "prlimit_one": "set a limit of process 1",
        "mknod_device": "make a device node of memory",
        "mknod_disk": "make a device node of a disk",
        "upper_protocol": "put TLS under a TCP socket in the kernel (TCP_ULP)",
        "socket_filter": "put a BPF filter onto a socket",
    }, OWN),
    *_group(SECCOMP, "ENOSYS", {"clone3": "clone3, whose flags no filter sees"}, OWN),
    *_group(SECCOMP, "EPERM", {
        "vsock": "AF_VSOCK, to the hypervisor",
        "alg": "AF_ALG",
        "packet": "AF_PACKET",
        "raw_ip": "a raw IP socket",
        "raw_ip6": "a raw IPv6 socket",
        "sctp": "SCTP",
        "mptcp": "MPTCP",
        "mptcp6": "MPTCP on IPv6",
        "mptcp_with_high_bits": "MPTCP, with bits above those that the kernel reads",
        "udplite": "UDP-Lite",
        "netlink_netfilter": "netlink to the packet filter",
        "netlink_generic": "generic netlink",
        "netlink_audit": "netlink to the audit",
        "netlink_xfrm": "netlink to IPsec",
        "tipc": "TIPC",
        "bluetooth": "Bluetooth",
        "can": "CAN",
        "xdp": "AF_XDP",
        "rds": "RDS",
        "type_into_terminal": "type into a terminal (TIOCSTI)",
        "line_discipline": "load a line discipline (TIOCSETD)",
        "line_discipline_with_high_bits": "the same, with bits above those that the kernel reads",
    }),
    *_group(SECCOMP, "EPERM", {
        "ping": "a ping socket",
        "netlink_uevent": "netlink to device events",
    }, OWN),
    *_group(SECCOMP, "SIGSYS", {
        "old_system_calls": "system calls of 32 bits (int 0x80)",
        "x32_system_calls": "system calls of x32",
    }),
    *_group("process 1 and the zygote are not dumpable", "EACCES, EPERM", {
        "one_memory": "open process 1's memory",
        "one_root": "look through process 1's root",
        "zygote_memory": "open the zygote's memory",
        "one_oom": "have process 1 ended for want of memory",
    }),
    *_group("process 1 and the zygote are not dumpable", "EACCES, EPERM", {
        "one_environment": "read process 1's environment",
        "one_descriptors": "list process 1's descriptors",
        "one_maps": "read process 1's mappings",
    }, OWN),
    *_group("no capability, no new privileges", "EPERM", {
        "setuid_root": "become user 0",
        "setgid_root": "become group 0",
        "setgroups_root": "join group 0",
        "chown_root": "give a file to root",
        "uid_map": "map user ids",
    }),
    *_group("no capability, no new privileges", "0000000000000000",
            {"capabilities": "find a capability in any set"}, "0000000000000000"),
    *_group("no capability, no new privileges", "without effect",
            {"setuid_programs": "run a program with the set-user-id bit"}, OWN),
    *_group("no core dumps", "0", {"core_dump": "leave a core dump"}, OWN),
    *_group("read-only root, masked files", "EROFS, EACCES, ENOENT, empty", {
        "write_root": "write a cron table",
        "shadow": "read /etc/shadow",
        "kernel_memory": "read /proc/kcore",
        "kernel_messages": "read /dev/kmsg",
        "physical_memory": "read /dev/mem",
        "kernel_keys": "read /proc/keys",
        "scheduler_debug": "read /proc/sched_debug",
        "core_pattern": "set the core pattern",
        "drop_caches": "drop the host's caches",
        "ip_forward": "forward packets",
        "modprobe": "set what loads modules",
        "sysrq": "the magic SysRq key",
        "uevent_helper": "set what hears of devices",
        "power": "suspend the host",
        "release_agent": "set a cgroup's release agent",
        "own_limit": "raise the own memory limit",
        "message_queue_files": "leave a file in /dev/mqueue",
        "engine_data": "find the engine's data",
    }),
    *_group("no network but loopback", "ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL", {
        "metadata": "connect to the cloud's metadata address",
        "metadata6": "the same on IPv6",
        "gateway": "connect to the bridge's gateway",
        "neighbours": "connect to a host of the LAN",
        "name_server": "ask a name server",
    }, NO_NETWORK),
    *_group("no network but loopback", "gaierror", {"names": "resolve a name"}, "gaierror"),
    *_group("no network but loopback", "lo", {"other_interfaces": "find another interface"}, "lo"),
    *_group("no network but loopback", "0 in sight",
            {"other_abstract_sockets": "find abstract sockets of the host"}, "0 in sight"),
    *_group("nothing of the host is mounted", "ENOENT", {
        "docker_socket": "connect to Docker's socket",
        "containerd_socket": "connect to containerd's socket",
        "control_socket": "connect to the sidecar's control socket",
    }),
    *_group("one connection for each container", "ECONNREFUSED",
            {"second_connection": "connect to the sidecar beside process 1"}, frozenset({"ECONNREFUSED"})),
    *_group("a pid namespace for each container", "0 in sight",
            {"other_processes": "find another's process"}, "0 in sight"),
    *_group("a run inherits its own socket alone", "0 in sight",
            {"stolen_descriptor": "find process 1's connection among its descriptors"}, "0 in sight"),
]  # fmt: skip
assert len({one.name for one in ALL}) == len(ALL)


def tried(samovar: Stack) -> dict[str, str]:
    run = samovar.finished("try-everything")
    assert run["status"] == "completed", run["error"]
    return dict(run["result"])


def wreck(samovar: Stack, task: str, **payload: Any) -> dict[str, Any]:
    """What becomes of a run; and then of one after it, which finds all well."""
    run = samovar.finished(task, **payload)
    after = samovar.finished("nothing")
    assert (after["status"], after["result"]) == ("completed", "well"), after["error"]
    return run
