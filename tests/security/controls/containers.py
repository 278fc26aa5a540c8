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
    Mutant(
        name="one_user_for_all",
        off="that each container is a user of its own",
        file="runner/users.py",
        old="        if any(not read_only for _, _, read_only in key.mounts):",
        new="        if True:",
        tests=("tests/unit/runner/test_users.py",),
    ),
    Mutant(
        name="users_of_this_runner_alone",
        off="the look at other runners' users",
        file="runner/users.py",
        old="used = await asyncio.to_thread(self._engine.users) | set(self._taken.values())",
        new="used = set(self._taken.values())",
        tests=("tests/unit/runner/test_users.py",),
    ),
    Mutant(
        name="slot_until_imported",
        off="that a start slot comes back when process 1 connects",
        file="runner/pool.py",
        old="            await self._connected(container)",
        new="            await self._wait_for(container.settled, self._settings.start_timeout)",
        tests=("tests/unit/runner/test_starts.py",),
    ),
    Mutant(
        name="slots_without_shares",
        off="the share of start slots that a project has",
        file="runner/starts.py",
        old="self._share = max(1, most - 1)",
        new="self._share = most",
        tests=("tests/unit/runner/test_starts.py",),
    ),
    Mutant(
        name="starts_without_turns",
        off="turns among projects that wait for a start",
        file="runner/starts.py",
        old="(self._turns.get(w.project, 0), w.number)",
        new="w.number",
        tests=("tests/unit/runner/test_starts.py",),
    ),
    Mutant(
        name="starts_without_pauses",
        off="the pause of a project whose containers die at start",
        file="runner/pool.py",
        old="                self._starts.failed(project)",
        new="                pass",
        tests=("tests/unit/runner/test_starts.py",),
    ),
    Mutant(
        name="shared_imports_kept",
        off="that a container is not used again whose forked runs share something",
        file="sdk/samovar/harness/zygote.py",
        old="unkept_notice(carried) if carried and unshared(options) else None",
        new="None",
        tests=("tests/unit/harness/test_starts.py",),
    ),
    Mutant(
        name="fresh_run_inherits",
        off="that a fresh run is given no descriptor but its own",
        file="sdk/samovar/harness/spawner.py",
        old="os.set_inheritable(number, False)",
        new="pass",
        tests=("tests/unit/harness/test_starts.py",),
    ),
    Mutant(
        name="zygote_takes_signals",
        off="that the process runs are forked from takes no signals",
        file="sdk/samovar/harness/spawner.py",
        old="mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())",
        new="mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])",
        tests=("tests/unit/harness/test_starts.py",),
    ),
    Mutant(
        name="scratch_time_of_change",
        off="the look at the time of change of files that imports have left",
        file="sdk/samovar/harness/cleanup.py",
        old="entry.st_mtime_ns, entry.st_ctime_ns)",
        new="entry.st_mtime_ns)",
        tests=("tests/unit/harness/test_starts.py",),
    ),
]
