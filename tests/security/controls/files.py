"""What keeps files to the runs that they are for, and within their limits."""

from __future__ import annotations

from tests.security.mutant import Mutant

_API = "tests/unit/coordinator/api/test_files.py::test_"
_HERE = "tests/security/test_files.py::test_"

MUTANTS: list[Mutant] = [
    Mutant(
        name="files_of_any_run",
        off="that code which is not trusted reads what it was given",
        file="coordinator/files/files.py",
        old='stored_options(run.options).trust != "untrusted"',
        new="True",
        tests=(_API + "code_that_is_not_trusted_reads_what_it_was_given_and_no_more",),
    ),
    Mutant(
        name="files_of_any_project",
        off="that a payload refers to its own project's files",
        file="coordinator/files/files.py",
        old="or_(files.c.project == project, files.c.project.is_(None))",
        new="or_(files.c.project == project, files.c.project.isnot(None), files.c.project.is_(None))",
        tests=(_HERE + "another_projects_file_is_not_given",),
    ),
    Mutant(
        name="files_of_other_attempts",
        off="that an attempt sends its own files",
        file="coordinator/files/files.py",
        old="if row.attempt_id != attempt_id:",
        new="if False:",
        tests=(_HERE + "another_attempts_file_is_not_written",),
    ),
    Mutant(
        name="files_without_digest",
        off="that what came is what was announced",
        file="coordinator/storage/blobs.py",
        old="if wanted is not None and name != wanted:",
        new="if False:",
        tests=(_API + "what_is_not_what_was_announced_is_not_kept",),
    ),
    Mutant(
        name="files_without_limit",
        off="how much the files of a run may take",
        file="coordinator/files/files.py",
        old="if int(total or 0) + announced.size > most:",
        new="if False:",
        tests=(_API + "a_run_keeps_only_so_much",),
    ),
    Mutant(
        name="files_anywhere",
        off="that a file is saved below the folder that is given",
        file="sdk/samovar/calling/files.py",
        old='if any(part in ("", ".", "..") or ":" in part for part in parts):',
        new="if False:",
        tests=(_HERE + "no_name_leads_out_of_the_folder",),
    ),
    Mutant(
        name="files_after_the_end",
        off="that transfers end with the run",
        file="sidecar/container.py",
        old="self._run_socket.hang_up()",
        new="pass",
        tests=(_HERE + "what_is_under_way_ends_with_the_attempt",),
    ),
]
