"""The container that a run is in."""

from __future__ import annotations

from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = [
    Mutant(
        name="root_writable",
        off="the read-only root file system",
        file="runner/docker_engine.py",
        old="read_only=True,\n                network_mode",
        new="read_only=False,\n                network_mode",
        tests=("tests/security/test_isolation.py",),
    ),
    Mutant(
        name="seccomp_unconfined",
        off="the seccomp profile",
        file="runner/docker_engine.py",
        old='f"seccomp={seccomp.profile()}"',
        new='"seccomp=unconfined"',
        tests=("tests/security/test_isolation.py",),
    ),
]
