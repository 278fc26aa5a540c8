"""What keeps secrets to the run that they are for."""

from __future__ import annotations

from tests.security.mutant import Mutant

_HERE = "tests/security/test_secrets.py::test_"

MUTANTS: list[Mutant] = [
    Mutant(
        name="secrets_any_ticket",
        off="the ticket of the attempt",
        file="sidecar/run_socket.py",
        old="or not _equal(ticket, bound[0])",
        new="",
        tests=(_HERE + "a_ticket_that_is_not_the_attempts_gives_nothing",),
    ),
    Mutant(
        name="secrets_outlive_the_attempt",
        off="that secrets end with the attempt",
        file="sidecar/container.py",
        old="return None if attempt is None else attempt.asked()",
        new="self._before = self._before if attempt is None else attempt.asked(); return self._before",
        tests=(_HERE + "a_ticket_ends_with_its_attempt",),
    ),
    Mutant(
        name="secrets_of_any_task",
        off="that a task gets what it names",
        file="coordinator/attempts/secrets.py",
        old="stored_options(run.options).given_secrets",
        new='["KEY", "SHARED", "UNSET", "OTHER"]',
        tests=("tests/conformance/attempts/test_secrets.py::test_the_tasks_own_and_no_other",),
    ),
    Mutant(
        name="secrets_of_untrusted_code",
        off='that trust="untrusted" gets none',
        file="coordinator/tasks/index.py",
        old='return [] if self.trust == "untrusted" else self.secrets',
        new="return self.secrets",
        tests=(_HERE + "untrusted_code_gets_none",),
    ),
    Mutant(
        name="secrets_in_lines",
        off="the masking of log lines",
        file="sidecar/logs.py",
        old="self.redactor.text(line.message[:_LONGEST], whole=not line.partial)",
        new="line.message[:_LONGEST]",
        tests=(_HERE + "what_a_run_says_of_it_is_masked",),
    ),
    Mutant(
        name="secrets_in_errors",
        off="the masking of errors",
        file="sidecar/accounts.py",
        old='"error": cut(redactor.tree(error)),',
        new='"error": cut(error),',
        tests=(_HERE + "what_a_run_says_of_it_is_masked",),
    ),
    Mutant(
        name="secrets_in_metadata",
        off="the masking of metadata",
        file="sidecar/attempt.py",
        old="if redactor is not NOTHING:",
        new="if False:",
        tests=(_HERE + "what_a_run_says_of_it_is_masked",),
    ),
    Mutant(
        name="secrets_socket_without_end",
        off="how many may ask at a time",
        file="sidecar/run_socket.py",
        old="if len(self._visits) >= _AT_ONCE or",
        new="if",
        tests=(_HERE + "silent_askers_are_few",),
    ),
]
