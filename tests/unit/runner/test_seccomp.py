"""The profile as it is written; what the kernel makes of it is tried in tests/security."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner import seccomp

#: What no container is to have, by what it would be good for.
REFUSED = {
    "processes": "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd process_mrelease",
    "the kernel": "bpf perf_event_open userfaultfd kexec_load kexec_file_load init_module finit_module",
    "rings": "io_uring_setup io_uring_enter io_uring_register io_setup io_submit io_getevents io_pgetevents",
    "keys": "keyctl add_key request_key",
    "mounts": "mount umount2 pivot_root chroot fsopen fsmount fspick fsconfig open_tree move_mount mount_setattr",
    "namespaces": "unshare setns",
    "handles": "name_to_handle_at open_by_handle_at fanotify_init",
    "memory of nodes": "mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    "IPC": "shmget shmat msgget semget mq_open mq_unlink",
    "the host": "syslog quotactl quotactl_fd swapon swapoff reboot acct settimeofday clock_settime sync "
    "syncfs sethostname",
    "old": "modify_ldt uselib ustat sysfs vm86 iopl ioperm nfsservctl remap_file_pages lookup_dcookie _sysctl",
    "cpus": "adjtimex clock_adjtime vhangup vmsplice",
}


def rules() -> list[dict[str, Any]]:
    found = json.loads(seccomp.profile())
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed: list[dict[str, Any]] = [r for r in found["syscalls"] if r["action"] == "SCMP_ACT_ALLOW"]
    return allowed


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_task_needs_is_not_allowed(kind: str) -> None:
    allowed = {name for rule in rules() for name in rule["names"]}
    assert not allowed & set(REFUSED[kind].split())


@pytest.mark.parametrize("call", ["socket", "socketpair", "setsockopt", "ioctl", "clone", "personality", "mknod"])
def test_some_calls_are_never_allowed_whatever_they_ask(call: str) -> None:
    found = [rule["args"] for rule in rules() if call in rule["names"]]
    assert found
    assert all(found)


def test_arguments_are_compared_for_what_is_allowed() -> None:
    """The filter sees 64 bits where the kernel takes 32: what is "not 262" may well be 262 to the kernel."""
    for rule in rules():
        for argument in rule["args"]:
            assert argument["op"] in ("SCMP_CMP_EQ", "SCMP_CMP_LE", "SCMP_CMP_MASKED_EQ"), rule
        indexes = [argument["index"] for argument in rule["args"]]
        assert len(indexes) == len(set(indexes)), "two conditions on one argument are taken for two rules"


def test_other_binary_interfaces_are_not_there() -> None:
    found = json.loads(seccomp.profile())["archMap"]
    assert [entry["subArchitectures"] for entry in found] == [[], []]
