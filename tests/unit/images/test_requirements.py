"""Dependencies as projects write them, and the key that names their image."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.config import ProjectTable
from images.dependencies import Plan, Tree, make_plan
from images.dependencies.target import guess
from images.errors import ConfigError


def read_requirements(root: Path, named: str | None) -> Plan:
    project = ProjectTable(name="x", tasks=["tasks"], requirements=named)
    return make_plan(Tree(root), project, guess("3.11", []))


def key(plan: Plan) -> list[str | bytes]:
    return plan.key(lambda path: [])


def test_no_file_is_no_dependency(tmp_path) -> None:
    assert read_requirements(tmp_path, None).empty


def test_comments_blanks_and_continuations_do_not_change_the_key(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("# first\nhttpx >=0.27   # http\n\nsix==1.16.0 \\\n  --hash=sha256:ab\n")
    (tmp_path / "b.txt").write_text("httpx >=0.27\nsix==1.16.0 --hash=sha256:ab")
    a, b = read_requirements(tmp_path, "a.txt"), read_requirements(tmp_path, "b.txt")
    assert key(a) == key(b)
    assert a.files["requirements.txt"] == b"httpx >=0.27\nsix==1.16.0 --hash=sha256:ab\n"


def test_another_version_is_another_key(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("six==1.16.0\n")
    (tmp_path / "b.txt").write_text("six==1.17.0\n")
    a, b = read_requirements(tmp_path, "a.txt"), read_requirements(tmp_path, "b.txt")
    assert key(a) != key(b)


def test_the_place_of_a_requirement_is_known(tmp_path) -> None:
    (tmp_path / "more.txt").write_text("\nPy_YAML==6\n")
    (tmp_path / "requirements.txt").write_text("six\n-r more.txt\n")
    found = read_requirements(tmp_path, None)
    assert found.place_of("py-yaml") == "more.txt:2"
    assert found.place_of("six") == "requirements.txt:1"
    assert found.place_of("absent") is None


@pytest.mark.parametrize("line", ["samovar", "samovar[cli]>=0.1", "Samovar==0.1.0 ; python_version > '3'"])
def test_the_sdk_is_left_out(tmp_path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line}\nsamovar-extras\n")
    found = read_requirements(tmp_path, None)
    assert found.files["requirements.txt"] == b"samovar-extras\n"
    assert found.left_out == [f"requirements.txt:1: {line}"]


def test_only_the_sdk_is_no_dependency(tmp_path) -> None:
    (tmp_path / "requirements.txt").write_text("samovar\n")
    assert read_requirements(tmp_path, None).empty


def test_constraints_are_apart(tmp_path) -> None:
    (tmp_path / "limits.txt").write_text("six<2\n")
    (tmp_path / "requirements.txt").write_text("-c limits.txt\nsix\n")
    files = read_requirements(tmp_path, None).files
    assert files == {"requirements.txt": b"six\n", "constraints.txt": b"six<2\n"}


def test_a_wheel_in_the_project_goes_along(tmp_path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/mine-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "requirements.txt").write_text("./vendor/mine-1.0-py3-none-any.whl\n")
    files = read_requirements(tmp_path, None).files
    assert files["wheels/mine-1.0-py3-none-any.whl"] == b"wheel"
    assert files["requirements.txt"] == b"./wheels/mine-1.0-py3-none-any.whl\n"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("six\nsix=1.0\n", "requirements.txt:2", "'six=1.0' is not a requirement"),
        ("-e ./gone\n", "requirements.txt:1", "not in the source"),
        ("-r gone.txt\n", "requirements.txt:1", "not a file in the project"),
        ("-r ../../etc/passwd\n", "requirements.txt:1", "not a file in the project"),
        ("-r requirements.txt\n", "requirements.txt:1", "includes itself"),
        ("../other/mine.whl\n", "requirements.txt:1", "out of the project"),
    ],
)
def test_what_cannot_be_installed_is_named_with_its_line(tmp_path, text: str, path: str, words: str) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_requirements(tmp_path, None)
    assert words in {field.path: field.message for field in caught.value.problem.fields}[path]


def test_a_file_that_is_named_and_not_there(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"other\.txt"):
        read_requirements(tmp_path, "other.txt")


def test_pyproject_dependencies(tmp_path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname="x"\ndependencies = ["six", "samovar", "httpx>1"]\n')
    found = read_requirements(tmp_path, "pyproject.toml")
    assert found.files["requirements.txt"] == b"six\nhttpx>1\n"
    assert found.place_of("httpx") == "pyproject.toml dependencies[2]"


def test_pyproject_without_a_project_table(tmp_path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    with pytest.raises(ConfigError, match="requirements file"):
        read_requirements(tmp_path, "pyproject.toml")
