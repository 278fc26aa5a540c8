"""The seccomp profile of a task container: every system call is refused but those named here.

Stricter than Docker's default: no io_uring, no ptrace or reading of another process's memory, no limits set on
another process, no SysV IPC, no POSIX message queues, no keyrings, no userfaultfd, no perf, no bpf, no
namespaces, no mounts, no memory policies. Of sockets TCP, UDP, unix sockets and NETLINK_ROUTE, which libc asks for
the interfaces: no raw ones, no MPTCP, SCTP or UDP-Lite, no AF_VSOCK to the hypervisor, no AF_ALG, no AF_PACKET; and
no filter or upper protocol (ULP) put onto a socket. Nor what takes from all of the host: kernel AIO, of which there
is one count for everybody, and sync of all file systems. What is refused answers EPERM; clone3 answers ENOSYS, so
that libc falls back to clone, whose flags can be checked. Other ABIs (32 bits, x32) have no system call at all.

Arguments are compared for being allowed, never for being forbidden: the kernel reads 32 bits of most of them, the
filter 64, and so "unequal" would hold of a forbidden value with something above it.
"""

from __future__ import annotations

import errno
import json
from functools import cache
from typing import Any

_FILES = """
    access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown
    close close_range copy_file_range creat dup dup2 dup3 fadvise64 fallocate fcntl fdatasync fgetxattr
    flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64
    getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lgetxattr link linkat
    listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat newfstatat open openat
    openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat
    sync_file_range tee truncate umask unlink unlinkat utime utimensat utimes write writev
    memfd_create cachestat
"""
_MEMORY = """
    brk madvise membarrier mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap
    pkey_alloc pkey_free pkey_mprotect map_shadow_stack get_mempolicy
"""
_PROCESSES = """
    arch_prctl capget capset execve execveat exit exit_group fork vfork futex futex_waitv futex_wake futex_wait
    futex_requeue get_robust_list set_robust_list get_thread_area set_thread_area getcpu getegid geteuid getgid
    getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid
    getuid ioprio_get kill pidfd_open pidfd_send_signal prctl restart_syscall rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp set_tid_address setfsgid setfsuid setgid setgroups setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid sigaltstack signalfd signalfd4
    sysinfo tgkill times tkill uname wait4 waitid landlock_create_ruleset landlock_add_rule
    landlock_restrict_self getrandom pause rseq uretprobe
"""
_TIME = """
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 pipe pipe2 poll ppoll
    pselect6 select
"""
_SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
    sendmsg sendto shutdown
"""
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM, _RAW, _SEQPACKET = 1, 2, 3, 5
#: Of the type of a socket; above are SOCK_CLOEXEC and SOCK_NONBLOCK, and the kernel refuses all else.
_TYPE = 0xF
#: Family, type, protocol: 0 is the usual one, 1 PF_UNIX, 6 TCP, 17 UDP; of netlink 0 is NETLINK_ROUTE.
_KINDS = (
    *((_UNIX, kind, protocol) for kind in (_STREAM, _DGRAM, _SEQPACKET) for protocol in (0, 1)),
    *((family, _STREAM, protocol) for family in (_INET, _INET6) for protocol in (0, 6)),
    *((family, _DGRAM, protocol) for family in (_INET, _INET6) for protocol in (0, 17)),
    *((_NETLINK, kind, 0) for kind in (_DGRAM, _RAW)),
)
#: Levels of which every option may be set: IPPROTO_IP, IPPROTO_UDP, IPPROTO_IPV6, SOL_NETLINK.
_LEVELS = (0, 17, 41, 270)
_SOL_SOCKET, _SOL_TCP = 1, 6
#: The last option before SO_ATTACH_FILTER; of those after it timestamps, peek offset, busy poll, pacing, timeouts.
_LAST_SOCKET_OPTION, _SOCKET_OPTIONS = 25, (27, 29, 35, 37, 42, 46, 47, 49, 63, 64, 65, 66, 67)
#: All but TCP_MD5SIG, TCP_REPAIR and its kin, TCP_ULP.
_LAST_TCP_OPTION, _TCP_OPTIONS = 13, (16, 17, 18, 23, 24, 25, 26, 27, 30, 36, 37)
#: Of the terminal's ioctls (0x54..) those that programs need; TIOCSTI (0x12), TIOCLINUX (0x1c) and TIOCSETD (0x23)
#: type for others or load line disciplines.
_TERMINAL = 0x5400
_TERMINAL_IOCTLS = (
    *range(0x01, 0x12),
    *(0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x20, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28, 0x29),
    *(0x2A, 0x2B, 0x2C, 0x2D, 0x50, 0x51, 0x52, 0x60),
)
#: S_IFMT, and of it a file, a pipe, a socket: no devices.
_FORMAT, _FORMATS = 0o170000, (0, 0o100000, 0o010000, 0o140000)
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NAMESPACES = 0x7E020000
#: Linux, and the personalities that ask for its bits; none that switches address randomisation off.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)


def _allow(names: str | list[str], args: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    names = names.split() if isinstance(names, str) else names
    return {"names": sorted(set(names)), "action": "SCMP_ACT_ALLOW", "args": args or []}


def _argument(index: int, value: int, op: str, mask: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": mask, "op": op}


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return _argument(index, mask, "SCMP_CMP_MASKED_EQ", value)


def _sockets() -> list[dict[str, Any]]:
    equal = "SCMP_CMP_EQ"
    rules = []
    for family, kind, protocol in _KINDS:
        calls = ["socket", "socketpair"] if family == _UNIX else ["socket"]
        rules.append(
            _allow(calls, [_argument(0, family, equal), _masked(1, _TYPE, kind), _argument(2, protocol, equal)])
        )
    rules += [_allow(["setsockopt"], [_argument(1, level, equal)]) for level in _LEVELS]
    for level, last, options in (
        (_SOL_SOCKET, _LAST_SOCKET_OPTION, _SOCKET_OPTIONS),
        (_SOL_TCP, _LAST_TCP_OPTION, _TCP_OPTIONS),
    ):
        rules.append(_allow(["setsockopt"], [_argument(1, level, equal), _argument(2, last, "SCMP_CMP_LE")]))
        rules += [
            _allow(["setsockopt"], [_argument(1, level, equal), _argument(2, option, equal)]) for option in options
        ]
    return rules


def _ioctl() -> list[dict[str, Any]]:
    """All but what is above under _TERMINAL: a number of another kind differs from it in a bit of the upper 24."""
    bits = (1 << bit for bit in range(8, 32))
    rules = [_allow(["ioctl"], [_masked(1, bit, ~_TERMINAL & bit)]) for bit in bits]
    return rules + [_allow(["ioctl"], [_masked(1, 0xFFFFFFFF, _TERMINAL | low)]) for low in _TERMINAL_IOCTLS]


@cache
def profile() -> str:
    """The profile as the JSON that Docker's `seccomp=` security option takes."""
    rules = [_allow(_FILES + _MEMORY + _PROCESSES + _TIME + _WAITING + _SOCKETS)]
    rules += _sockets() + _ioctl()
    for call, index in (("mknod", 1), ("mknodat", 2)):
        rules += [_allow([call], [_masked(index, _FORMAT, format)]) for format in _FORMATS]
    rules += [_allow(["personality"], [_argument(0, value, "SCMP_CMP_EQ")]) for value in _PERSONALITIES]
    # a limit or an I/O class of another process would be one of process 1 or of the zygote, and outlive the run;
    # 0 is the caller itself, 1 IOPRIO_WHO_PROCESS; with no new limit, prlimit only reads
    rules.append(_allow(["prlimit64"], [_argument(0, 0, "SCMP_CMP_EQ")]))
    rules.append(_allow(["prlimit64"], [_argument(2, 0, "SCMP_CMP_EQ")]))
    rules.append(_allow(["ioprio_set"], [_argument(0, 1, "SCMP_CMP_EQ"), _argument(1, 0, "SCMP_CMP_EQ")]))
    # masked: the flags may be anything in which no namespace bit is set
    rules.append(_allow(["clone"], [_masked(0, _NAMESPACES, 0)]))
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS, "args": []})
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
            ],
            "syscalls": rules,
        }
    )
