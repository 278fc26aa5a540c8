"""What the sidecar holds against a hostile process 1."""

from __future__ import annotations

from tests.security.mutant import Mutant

_PROCESS_ONE = "tests/security/test_process_one.py::test_"
_DIRECTORIES = "tests/security/test_directories.py::test_"

MUTANTS: list[Mutant] = [
    Mutant(
        name="any_attempt",
        off="that only the bound attempt is spoken for",
        file="sidecar/container.py",
        old="if bound is None or attempt != bound.id:",
        new="if bound is None:",
        tests=(_PROCESS_ONE + "another_containers_attempt_is_not_spoken_for",),
    ),
    Mutant(
        name="no_hello",
        off="that hello comes first",
        file="sidecar/container.py",
        old="if not self._greeted:\n            raise Refused",
        new="if False:\n            raise Refused",
        tests=(_PROCESS_ONE + "nothing_is_carried_out_before_hello",),
    ),
    Mutant(
        name="no_ticket",
        off="the ticket",
        file="sidecar/ticket.py",
        old="return isinstance(shown, str) and hmac",
        new="return True or hmac",
        tests=(_PROCESS_ONE + "a_forged_ticket_admits_nobody",),
    ),
    Mutant(
        name="value_comes_last",
        off="that what the sidecar says comes after the value",
        file="sidecar/envelope.py",
        old="""    parts = [b"{"]
    for name, value in values.items():
        parts += [b'"' + name.encode() + b'":', *value, b","]
    return [*parts, fields[1:]]""",
        new="""    parts = [fields[:-1]]
    for name, value in values.items():
        parts += [b',"' + name.encode() + b'":', *value]
    return [*parts, b"}"]""",
        tests=(_PROCESS_ONE + "a_value_cannot_say_for_whom_it_is_written",),
    ),
    Mutant(
        name="no_caps",
        off="the cap per type",
        file="sidecar/envelope.py",
        old="if size > CAPS.get(self.kind, WHOLE):",
        new="if False:",
        tests=(_PROCESS_ONE + "what_no_request_may_say_is_refused_and_nothing_else_happens",),
    ),
    Mutant(
        name="no_event_pace",
        off="the pace of what the runner hears",
        file="sidecar/attempt.py",
        old="_EVENTS = (5.0, 20)",
        new="_EVENTS = (1e6, 10**6)",
        tests=(_PROCESS_ONE + "a_flood_costs_its_own_container_and_no_memory",),
    ),
    Mutant(
        name="one_ring",
        off="that events are kept for each container",
        file="sidecar/events.py",
        old="own = self._of.setdefault(container, deque())",
        new='own = self._of.setdefault("", deque())',
        tests=("tests/unit/sidecar/test_events.py",),
    ),
    Mutant(
        name="text_alone",
        off="that a log line costs all that is in it",
        file="sidecar/logs.py",
        old="return encoded if self._admits(line, len(encoded)) else None",
        new="return encoded if self._admits(line, len(line.message)) else None",
        tests=(_PROCESS_ONE + "a_log_line_costs_all_that_is_in_it",),
    ),
    Mutant(
        name="log_limit",
        off="the coordinator's limit of a run's log",
        file="coordinator/runs/logs.py",
        old="if taken + cost <= room:",
        new="if True:",
        tests=("tests/conformance/runs/test_log_lines.py",),
    ),
    Mutant(
        name="answers_kept",
        off="one long answer of a container at a time",
        file="sidecar/upstream.py",
        old="                        await large()\n",
        new="                        pass\n",
        tests=(_PROCESS_ONE + "answers_that_nobody_reads_take_no_memory",),
    ),
    Mutant(
        name="half_lines_kept",
        off="the deadline of a partial line",
        file="sidecar/lines.py",
        old="async with asyncio.timeout(PATIENCE - self._waited):",
        new="async with asyncio.timeout(None):",
        tests=("tests/unit/sidecar/test_lines.py",),
    ),
    Mutant(
        name="no_turns",
        off="turns over containers",
        file="sidecar/turns.py",
        old="self._held.get(owner, 0) < self._share():",
        new="True:",
        tests=("tests/unit/sidecar/test_turns.py",),
    ),
    Mutant(
        name="open_directories",
        off="closing a directory that is open",
        file="coordinator/wire/directories.py",
        old="path.chmod(mode & ~UMASK & 0o7777 | 0o700)",
        new="pass",
        tests=(_DIRECTORIES + "a_directory_that_is_there_is_tightened",),
    ),
    Mutant(
        name="any_peer",
        off="asking for the user of a container's peer",
        file="sidecar/peers.py",
        old="return user in (0, os.geteuid()) or user >= wire.TASK_UID",
        new="return True",
        tests=(_DIRECTORIES + "where_the_directories_were_opened_the_peer_is_looked_at",),
    ),
    Mutant(
        name="any_controller",
        off="asking for the user who controls",
        file="sidecar/session.py",
        old="if peers.may_control(self.user):",
        new="if True:",
        tests=(_DIRECTORIES + "where_the_directories_were_opened_the_peer_is_looked_at",),
    ),
    Mutant(
        name="sidecar_names_mounts",
        off="that the runner decides what is mounted",
        file="runner/making.py",
        old="        return str(path)",
        new='        return "/etc"',
        tests=("tests/unit/runner/test_mounts.py",),
    ),
]
