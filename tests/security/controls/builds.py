"""Archives, base images and builders."""

from __future__ import annotations

from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = [
    Mutant(
        name="header_of_any_size",
        off="the cap on a header of an archive",
        file="coordinator/archive.py",
        old="if size < 0 or size > _LARGEST_HEADER:",
        new="if size < 0:",
        tests=("tests/security/test_archives.py",),
    ),
    Mutant(
        name="twice_in_an_archive",
        off="that a name stands in an archive once",
        file="coordinator/archive.py",
        old="if name in names and not member.isdir():",
        new="if False:",
        tests=("tests/security/test_archives.py",),
    ),
    Mutant(
        name="through_a_link",
        off="that nothing is written through a link",
        file="coordinator/archive.py",
        old="if any(parent in links for parent in name.parents):",
        new="if False:",
        tests=("tests/security/test_archives.py",),
    ),
    Mutant(
        name="archive_out_of_itself",
        off="that names stay inside",
        file="coordinator/archive.py",
        old='if name.is_absolute() or ".." in name.parts or (not name.parts and not member.isdir()):',
        new="if False:",
        tests=("tests/security/test_archives.py",),
    ),
    Mutant(
        name="source_names_its_project",
        off="that the coordinator's name is the only one",
        file="images/project.py",
        old="if config.project.name != project:",
        new="if False:",
        tests=("tests/security/test_archives.py",),
    ),
    Mutant(
        name="reading_without_memory_limit",
        off="the memory limit of the process that reads a project",
        file="images/reading.py",
        old="(resource.RLIMIT_AS, memory),",
        new="",
        tests=("tests/unit/images/test_reading.py",),
    ),
    Mutant(
        name="any_base",
        off="the list of bases",
        file="images/allowed.py",
        old="if built or not any(",
        new="if False and not any(",
        tests=("tests/security/test_builds_bases.py",),
    ),
    Mutant(
        name="an_id_for_a_base",
        off="that an image's id is no name",
        file="images/allowed.py",
        old="if _ID.fullmatch(name):",
        new="if False:",
        tests=("tests/security/test_builds_bases.py",),
    ),
    Mutant(
        name="builds_without_turns",
        off="turns of projects at builds",
        file="coordinator/deployments/builds.py",
        old="key=lambda name: (served[name], waiting[name][0].created_at, name)",
        new="key=lambda name: (waiting[name][0].created_at, name)",
        tests=("tests/conformance/deployments/test_deployments.py",),
    ),
    Mutant(
        name="builds_without_shares",
        off="the share of a project at builds",
        file="coordinator/deployments/builds.py",
        old="if shares is not None and held.get(project, 0) >= shares.of(project):",
        new="if False:",
        tests=("tests/conformance/deployments/test_deployments.py",),
    ),
    Mutant(
        name="reading_without_end",
        off="the time limit of the process that reads a project",
        file="images/reading.py",
        old="        timer.start()\n",
        new="",
        tests=("tests/unit/images/test_reading.py",),
    ),
]
