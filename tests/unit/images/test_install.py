"""What pip and apt say when they fail, told to a person."""

from __future__ import annotations

import re

import pytest

from images.dependencies import Plan
from images.dependencies.pins import Step
from images.host import HostNetwork
from images.install import (
    apt_script,
    ask_script,
    explain_apt,
    explain_pip,
    fetch_script,
    libraries_script,
    pip_script,
    wheel_script,
)

REQUIREMENTS = Plan(
    "requirements.txt",
    {"requirements.txt": b"nope==1\n"},
    steps=[Step("requirements.txt")],
    places={"nope": "requirements.txt:4"},
)


def test_a_requirement_that_is_not_there_is_named_with_its_line_and_pips_words() -> None:
    error = explain_pip(
        [
            "Collecting six",
            "ERROR: Could not find a version that satisfies the requirement nope==1 (from versions: none)",
            "ERROR: No matching distribution found for nope==1",
        ],
        1,
        REQUIREMENTS,
    )
    assert error.problem.code == "requirement_not_found"
    assert "'nope==1'" in error.problem.message
    assert "ERROR: Could not find a version that satisfies the requirement nope==1" in error.problem.message
    assert [field.path for field in error.problem.fields] == ["requirements.txt:4"]


def test_an_index_that_does_not_answer_is_no_missing_package() -> None:
    error = explain_pip(
        [
            "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'refused': /simple/nope/",
            "ERROR: Could not find a version that satisfies the requirement nope==1 (from versions: none)",
            "ERROR: No matching distribution found for nope==1",
        ],
        1,
        REQUIREMENTS,
    )
    assert error.problem.code == "index_unreachable"
    assert "refused" in error.problem.message


def test_a_conflict_is_quoted() -> None:
    error = explain_pip(
        [
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.",
            "The conflict is caused by:",
            "    a 1 depends on c<1",
        ],
        1,
        REQUIREMENTS,
    )
    assert error.problem.code == "requirements_conflict"
    assert "a 1 depends on c<1" in error.problem.message


def test_a_package_that_does_not_build_says_what_it_said_and_what_helps() -> None:
    error = explain_pip(
        [
            "  error: subprocess-exited-with-error",
            "      error: command 'gcc' failed: No such file or directory",
            "ERROR: Failed building wheel for fastthing",
        ],
        1,
        REQUIREMENTS,
    )
    assert "fastthing could not be built" in error.problem.message
    assert "command 'gcc' failed" in error.problem.message
    assert "apt" in error.problem.message


def test_the_end_of_a_long_traceback_is_told() -> None:
    frames = [f"        File {number}" for number in range(100)]
    error = explain_pip(
        ["  error: subprocess-exited-with-error", *frames, "      OSError: File too large", "ERROR: Failed"],
        1,
        REQUIREMENTS,
    )
    assert "subprocess-exited-with-error" in error.problem.message
    assert "OSError: File too large" in error.problem.message
    assert len(error.problem.message.splitlines()) < 50


def test_a_debian_package_that_is_not_there_is_named() -> None:
    error = explain_apt(["Reading package lists...", "E: Unable to locate package libnope"], 100)
    assert error.problem.code == "package_not_found"
    assert "'libnope'" in error.problem.message
    assert error.problem.fields[0].path == "project.apt"


def test_settings_are_quoted_for_the_shell() -> None:
    network = HostNetwork(None, {"PIP_INDEX_URL": "https://u:p$(id)'@index.example/simple"})
    script = fetch_script(["wheels house six"], "/lent", network)
    assert """export PIP_INDEX_URL='https://u:p$(id)'"'"'@index.example/simple'""" in script
    assert "PIP_INDEX_URL" not in apt_script(["tree"], "/lent", network)


@pytest.mark.parametrize(
    "script",
    [
        pip_script(REQUIREMENTS, "/l"),
        wheel_script("a.tar.gz", "/l"),
        libraries_script(1, "/l"),
        ask_script(1, "/l"),
    ],
    ids=["install", "wheel", "libraries", "ask"],
)
def test_what_runs_packages_is_told_of_no_index(script: str) -> None:
    assert "PIP_NO_INDEX=1" in script
    assert not re.search(r"INDEX_URL|PROXY|_CERT|ca\.pem|cache", script)
