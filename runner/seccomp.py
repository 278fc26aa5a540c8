"""The seccomp profile of a task container: every system call is refused but those named here.

Stricter than Docker's default: no io_uring, no ptrace or reading of another process's memory, no limits set on
another process, no SysV IPC, no POSIX message queues, no keyrings, no userfaultfd, no perf, no bpf, no
namespaces, no mounts, and sockets of four families only (so no AF_VSOCK to the hypervisor, no AF_ALG, no
AF_PACKET). What is refused answers EPERM; clone3 answers ENOSYS, so that libc falls back to clone, whose flags
can be checked.
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
    getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lgetxattr link linkat
    listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat
    openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat
    sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev
    memfd_create cachestat
"""
_MEMORY = """
    brk madvise membarrier mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap
    pkey_alloc pkey_free pkey_mprotect remap_file_pages map_shadow_stack get_mempolicy set_mempolicy mbind
    set_mempolicy_home_node
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
    adjtimex alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 pipe pipe2 poll ppoll pselect6 select io_setup io_submit io_getevents io_pgetevents
    io_cancel io_destroy
"""
_SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
    sendmsg sendto setsockopt shutdown
"""
#: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (libc asks it for the interfaces).
_FAMILIES = (1, 2, 10, 16)
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NAMESPACES = 0x7E020000
#: Linux, and the personalities that ask for its bits; none that switches address randomisation off.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)


def _allow(names: str | list[str], args: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    names = names.split() if isinstance(names, str) else names
    return {"names": sorted(set(names)), "action": "SCMP_ACT_ALLOW", "args": args or []}


def _argument(index: int, value: int, op: str, mask: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": mask, "op": op}


@cache
def profile() -> str:
    """The profile as the JSON that Docker's `seccomp=` security option takes."""
    rules = [_allow(_FILES + _MEMORY + _PROCESSES + _TIME + _WAITING + _SOCKETS)]
    for call in ("socket", "socketpair"):
        rules += [_allow([call], [_argument(0, family, "SCMP_CMP_EQ")]) for family in _FAMILIES]
    rules += [_allow(["personality"], [_argument(0, value, "SCMP_CMP_EQ")]) for value in _PERSONALITIES]
    # a limit or an I/O class of another process would be one of process 1 or of the zygote, and outlive the run;
    # 0 is the caller itself, 1 IOPRIO_WHO_PROCESS; with no new limit, prlimit only reads
    rules.append(_allow(["prlimit64"], [_argument(0, 0, "SCMP_CMP_EQ")]))
    rules.append(_allow(["prlimit64"], [_argument(2, 0, "SCMP_CMP_EQ")]))
    rules.append(_allow(["ioprio_set"], [_argument(0, 1, "SCMP_CMP_EQ"), _argument(1, 0, "SCMP_CMP_EQ")]))
    # masked: the flags may be anything in which no namespace bit is set
    rules.append(_allow(["clone"], [_argument(0, _NAMESPACES, "SCMP_CMP_MASKED_EQ", 0)]))
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
