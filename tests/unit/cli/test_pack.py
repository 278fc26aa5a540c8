"""A project's archive: the same bytes each time, and only what belongs in it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from samovar.cli import pack as packing
from samovar.cli.errors import CliError
from samovar.cli.pack import pack

from images.dependencies.tree import Tree, packed

CONFIG = '[project]\nname = "orders"\ntasks = ["tasks"]\n'


def write(root: Path, *names: str, **texts: str) -> Path:
    for name in ("samovar.toml", *names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONFIG if name == "samovar.toml" else texts.get(name, name))
    return root


def members(root: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(pack(root).data)) as tar:
        return {member.name: member for member in tar}


def files(root: Path) -> set[str]:
    return {name for name, member in members(root).items() if not member.isdir()}


def test_the_same_files_give_the_same_bytes(tmp_path) -> None:
    first = write(tmp_path / "one", "tasks.py", "pkg/b.py", "pkg/a.py", "ärger.txt")
    second = write(tmp_path / "two", "ärger.txt", "pkg/a.py", "pkg/b.py", "tasks.py")
    os.utime(first / "tasks.py", (1, 1))
    (second / "tasks.py").chmod(0o600)
    assert pack(first).data == pack(second).data


def test_the_entries_say_nothing_of_who_packed_them(tmp_path) -> None:
    root = write(tmp_path, "run.sh", "tasks.py")
    (root / "run.sh").chmod(0o700)
    found = members(root)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found.values()} == {(0, 0, "", "", 0)}
    assert found["run.sh"].mode == 0o755
    assert found["tasks.py"].mode == 0o644
    assert list(found) == sorted(found)


def test_what_never_belongs_to_a_project_is_left_out(tmp_path) -> None:
    root = write(
        tmp_path,
        "tasks.py",
        ".git/HEAD",
        ".venv/bin/python",
        "pkg/__pycache__/tasks.cpython-311.pyc",
        "stray.pyc",
        "myenv/pyvenv.cfg",
        "myenv/lib/x.py",
    )
    assert files(root) == {"samovar.toml", "tasks.py"}


def test_ignore_files_hold_as_git_reads_them(tmp_path) -> None:
    root = write(
        tmp_path,
        "tasks.py",
        "a.log",
        "keep.log",
        "build/x",
        "pkg/build/x",
        "data/big.bin",
        "pkg/notes.txt",
        "pkg/important.txt",
        "only/top.txt",
        "pkg/only/top.txt",
    )
    (root / ".gitignore").write_text("*.log\n!keep.log\nbuild/\n/only\n# a comment\n")
    (root / ".samovarignore").write_text("data/\n")
    (root / "pkg/.gitignore").write_text("*.txt\n!important.txt\n!only/top.txt\n")
    assert files(root) == {
        ".gitignore",
        ".samovarignore",
        "pkg/.gitignore",
        "samovar.toml",
        "tasks.py",
        "keep.log",
        "pkg/important.txt",
        "pkg/only/top.txt",
    }


def test_samovarignore_may_bring_back_what_gitignore_leaves_out(tmp_path) -> None:
    root = write(tmp_path, "generated.py")
    (root / ".gitignore").write_text("generated.py\n")
    assert "generated.py" not in files(root)
    (root / ".samovarignore").write_text("!generated.py\n")
    assert "generated.py" in files(root)


def test_rules_of_the_repository_above_hold_too(tmp_path) -> None:
    root = write(tmp_path / "repository/projects/orders", "tasks.py", "secret.env")
    assert "secret.env" in files(root)
    (tmp_path / "repository/.git").mkdir()
    (tmp_path / "repository/.gitignore").write_text("*.env\n")
    assert files(root) == {"samovar.toml", "tasks.py"}


def test_a_link_inside_stays_a_link_and_one_out_is_refused(tmp_path) -> None:
    root = write(tmp_path / "project", "pkg/tasks.py")
    (root / "tasks.py").symlink_to("pkg/tasks.py")
    assert members(root)["tasks.py"].linkname == "pkg/tasks.py"
    (tmp_path / "outside.py").write_text("")
    (root / "pkg/out.py").symlink_to("../../outside.py")
    with pytest.raises(CliError, match=r"pkg/out\.py is a link to \.\./\.\./outside\.py"):
        pack(root)
    (root / "pkg/out.py").unlink()
    (root / "pkg/out.py").symlink_to(root / "tasks.py")
    with pytest.raises(CliError, match="out of the project"):
        pack(root)


def test_a_pipe_is_refused_by_name(tmp_path) -> None:
    root = write(tmp_path, "tasks.py")
    os.mkfifo(root / "pipe")
    with pytest.raises(CliError, match="pipe is a pipe"):
        pack(root)


def test_a_project_that_is_too_large_names_its_largest_files(tmp_path, monkeypatch) -> None:
    root = write(tmp_path, "tasks.py")
    (root / "table.bin").write_bytes(b"x" * 5000)
    monkeypatch.setattr(packing, "MAX_UNPACKED", 4000)
    with pytest.raises(CliError) as caught:
        pack(root)
    assert caught.value.fields[0]["path"] == "table.bin"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no samovar.toml"),
        ("[project\n", "line 1"),
        ("[project]\nname = 3\n", "names no project"),
        ("tasks = []\n", "names no project"),
    ],
)
def test_a_directory_that_is_no_project_says_why(tmp_path, text, words) -> None:
    if text is not None:
        (tmp_path / "samovar.toml").write_text(text)
    with pytest.raises(CliError, match=words):
        pack(tmp_path)


def test_a_directory_that_is_not_there(tmp_path) -> None:
    with pytest.raises(CliError, match="not a directory"):
        pack(tmp_path / "gone")


def shop(top: Path, include: str, *names: str) -> Path:
    """A repository with the service `services/orders`, which includes `include`."""
    (top / ".git").mkdir(parents=True)
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    root = top / "services/orders"
    root.mkdir(parents=True)
    (root / "samovar.toml").write_text(CONFIG + f"include = {include}\n")
    return root


def test_a_library_beside_the_project_is_packed_under_a_name_of_its_own(tmp_path) -> None:
    names = (
        "libs/common/pyproject.toml",
        "libs/common/src/common.py",
        "libs/common/.venv/pyvenv.cfg",
        "libs/other.py",
    )
    root = shop(tmp_path, '["../../libs/common", "../../libs/other.py"]', *names)
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "libs/common/build.log").write_text("")
    (root / ".samovar-include").mkdir()
    (root / ".samovar-include/mine.py").write_text("")
    assert files(root) == {
        "samovar.toml",
        ".samovar-include/2/libs/common/pyproject.toml",
        ".samovar-include/2/libs/common/src/common.py",
        ".samovar-include/2/libs/other.py",
    }
    tree = Tree(tmp_path, ["../../libs/common"])
    assert tree.root / packed("../../libs/common/src") == tmp_path / ".samovar-include/2/libs/common/src"


def test_an_include_inside_the_project_is_packed_once(tmp_path) -> None:
    root = shop(tmp_path, '["libs/a"]')
    (root / "libs/a").mkdir(parents=True)
    (root / "libs/a/a.py").write_text("")
    assert files(root) == {"samovar.toml", "libs/a/a.py"}


@pytest.mark.parametrize(
    ("include", "words"),
    [
        ('["../../libs/gone"]', "not there"),
        ('["../.."]', "the project itself"),
        ('["../../services"]', "the project itself"),
        ('["/etc"]', "no path from the project"),
        ('["../../../beside"]', "out of the repository"),
        ('["../../libs/link"]', "link"),
        ('["../../link/inner"]', "link"),
        ("[3]", "no path from the project"),
    ],
)
def test_an_include_that_cannot_be_is_refused_by_its_number(tmp_path, include: str, words: str) -> None:
    (tmp_path / "beside").mkdir()
    root = shop(tmp_path / "repo", include, "libs/real/inner/a.py")
    (tmp_path / "repo/libs/link").symlink_to("real")
    (tmp_path / "repo/link").symlink_to("libs/real")
    with pytest.raises(CliError) as caught:
        pack(root)
    assert caught.value.fields[0]["path"] == "project.include[0]"
    assert words in caught.value.fields[0]["message"]


def test_a_link_out_of_an_included_library_is_refused(tmp_path) -> None:
    root = shop(tmp_path, '["../../libs/common"]', "libs/common/a.py", "secret.txt")
    (tmp_path / "libs/common/b.txt").symlink_to("../../secret.txt")
    with pytest.raises(CliError, match=r"b\.txt is a link"):
        pack(root)
