"""Names of images, and the operator's list of bases."""

from __future__ import annotations

import pytest

from images.allowed import USUAL_BASES, allowed_base, read_line, reference
from images.errors import BaseError
from tests.security.attempts import attempt

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("python", "docker\x2eio/library/python:latest"),
        ("python:3.12-slim", "docker\x2eio/library/python:3.12-slim"),
        ("docker\x2eio/library/python", "docker\x2eio/library/python:latest"),
        ("docker\x2eio/python", "docker\x2eio/library/python:latest"),
        ("index.docker\x2eio/library/python:3", "docker\x2eio/library/python:3"),
        (f"python@{DIGEST}", f"docker\x2eio/library/python@{DIGEST}"),
        (f"python:3.12@{DIGEST}", f"docker\x2eio/library/python@{DIGEST}"),
        ("team/base:1", "docker\x2eio/team/base:1"),
        ("localhost/python", "localhost/python:latest"),
        ("localhost:5000/python", "localhost:5000/python:latest"),
        ("REGISTRY.example/python:3", "registry.example/python:3"),
        ("registry.example:5000/team/python", "registry.example:5000/team/python:latest"),
    ],
)
def test_a_name_means_one_image(given: str, whole: str) -> None:
    assert reference(given).name == whole


def shown(name: str) -> str:
    """As the page has it, with no registry's host in it."""
    return name[:60].replace("docker\x2eio", "REGISTRY")


REFUSED = [
    "sha256:" + "0" * 64,
    "fb15819ce35c",
    "FB15819CE35C",
    "0" * 64,
    "samovar/victim:deployment-0123456789ab",
    "samovar/base:deployment-0123456789ab",
    "samovar/base",
    "docker\x2eio/samovar/victim:dependencies-0",
    "samovar-test/none:1",
    "ubuntu:24.04",
    "team/python:3.12",
    "library/python/x",
    "localhost/python:3.12",
    "localhost:5000/python:3.12",
    "registry.example/python:3.12",
    "127.0.0.1:5000/library/python",
    "169.254.169.254/latest",
    "docker\x2eio.evil.example/library/python",
    "docker\x2eio:443/library/python",
    "DOCKER.IO.example/library/python",
    "python:3.12@sha256:" + "a" * 63,
    f"ubuntu@{DIGEST}",
    "Python:3.12",
    "python:",
    "python:3.12:3.13",
    "python@",
    "../python",
    "/python",
    "python\n",
    "python:*",
    "*",
    "p" * 5000,
    "",
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            id=f"{number}-{name[:30]!r}",
            marks=attempt("build", f"base = {shown(name)!r}", "a list of bases", "base_not_allowed or base_image"),
        )
        for number, name in enumerate(REFUSED)
    ],
)
def test_what_the_list_does_not_name_is_refused(name: str) -> None:
    with pytest.raises(BaseError) as caught:
        allowed_base(name, USUAL_BASES)
    assert caught.value.problem.fields[0].path == "project.base"
    assert len(str(caught.value)) < 2000


def test_a_refusal_names_the_image_the_key_and_what_there_is() -> None:
    with pytest.raises(BaseError) as caught:
        allowed_base("ubuntu:24.04", USUAL_BASES)
    message = caught.value.problem.message
    assert "'ubuntu:24.04'" in message
    assert "policy.toml, [images] bases" in message
    assert "python, samovar/base:bookworm" in message


@pytest.mark.parametrize(
    ("line", "name", "holds"),
    [
        ("python", "python:3.12-slim", True),
        ("python", f"python@{DIGEST}", True),
        ("python", "docker\x2eio/library/python:3", True),
        ("python:3.*-slim", "python:3.12-slim", True),
        ("python:3.*-slim", "python:3.12", False),
        ("python:3.12-slim", f"python:3.12-slim@{DIGEST}", False),
        (f"python@{DIGEST}", f"python:3.12@{DIGEST}", True),
        (f"python@{DIGEST}", "python:3.12", False),
        (f"python@{DIGEST}", f"python@{DIGEST[:-1]}0", False),
        ("registry.example:5000/team/*", "registry.example:5000/team/a:1", True),
        ("registry.example:5000/team/*", "registry.example:5000/other/a:1", False),
        ("registry.example:5000/team/*", "registry.example/team/a:1", False),
        ("registry.example/python", "registry.example/python:3", True),
        ("localhost/base", "localhost/base:1", True),
        ("samovar/*", "samovar/victim:deployment-0", False),
        ("samovar/*", "samovar/base:bookworm", True),
    ],
)
def test_lines_of_the_list(line: str, name: str, holds: bool) -> None:
    if holds:
        assert allowed_base(name, [line]).name
    else:
        with pytest.raises(BaseError):
            allowed_base(name, [line])


LINES = ["*/python", "registry.*/x/y", "python@sha256:*", "Python", "a/*/b", "", "fb15819ce35c"]


@pytest.mark.parametrize("line", LINES)
def test_lines_that_mean_nothing_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_line(line)
