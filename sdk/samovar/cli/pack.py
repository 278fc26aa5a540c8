"""A project directory as one archive: the same files give the same bytes, wherever and whenever it is made."""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samovar.cli.errors import CliError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_NAME = "samovar.toml"
IGNORE_FILES = (".gitignore", ".samovarignore")

#: Where an archive keeps what `include` brings from outside of the project; `images/dependencies/tree.py` reads it.
INCLUDED = ".samovar-include"

#: Never part of a project, whatever the ignore files say.
_NEVER_DIRECTORIES = frozenset(
    {".git", ".hg", ".svn", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox"}
)
_NEVER_SUFFIXES = (".pyc", ".pyo")

#: What the coordinator takes, packed; and what a builder unpacks.
MAX_PACKED = 256 * 1024 * 1024
MAX_UNPACKED = 512 * 1024 * 1024
MAX_FILES = 50_000


@dataclass(frozen=True)
class Packed:
    """A project as a gzip-compressed tar archive."""

    project: str
    data: bytes
    files: int
    unpacked: int


def pack(root: Path) -> Packed:
    """Pack the project in `root`. Raises CliError saying which file is in the way."""
    config = read_config(root)
    entries = {path.relative_to(root).as_posix(): path for path in project_files(root)}
    entries |= included_files(root, config)
    sizes = {
        name: path.lstat().st_size for name, path in entries.items() if path.is_file() and not path.is_symlink()
    }
    _check_size(entries, sizes)
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0, compresslevel=6) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in entries.items():
                _add(tar, name, path)
    data = stream.getvalue()
    if len(data) > MAX_PACKED:
        raise CliError(
            f"the project is {_mib(len(data))} packed, and {_mib(MAX_PACKED)} is the most", code="too_large"
        )
    return Packed(config["project"]["name"], data, len(sizes), sum(sizes.values()))


def read_config(root: Path) -> dict[str, Any]:
    """The samovar.toml in `root`, as far as the command line needs it; the build checks it all."""
    path = root / CONFIG_NAME
    if not root.is_dir():
        raise CliError(f"{root} is not a directory", code="no_project")
    try:
        config: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise CliError(
            f"there is no {CONFIG_NAME} in {root.resolve()}; `samovar init` writes a project to start from",
            code="no_project",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError(f"{path} is not valid TOML: {error}", code="invalid_config") from None
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error}", code="no_project") from None
    project = config.get("project")
    if not isinstance(project, dict) or not isinstance(project.get("name"), str):
        raise CliError(
            f"{path} names no project",
            code="invalid_config",
            fields=[{"path": "project.name", "message": 'missing: [project] name = "…"'}],
        )
    return config


def project_files(root: Path) -> Iterator[Path]:
    """Files, links and directories of the project, parents first, always in the same order."""
    rules = [_read_rules(directory) for directory in reversed(_repository_parents(root))]
    yield from _walk(root, root, [rule for rule in rules if rule])


def included_files(root: Path, config: dict[str, Any]) -> dict[str, Path]:
    """What `include` of samovar.toml brings from outside of the project, by its name in the archive.

    The name is INCLUDED, the number of steps up and the rest of the way: never one with `..` in it.
    """
    given = config["project"].get("include", config.get("include", []))
    found: dict[str, Path] = {}
    for number, text in enumerate(given if isinstance(given, list) else []):
        place = f"project.include[{number}]"
        where = posixpath.normpath(text) if isinstance(text, str) and text else ""
        if not where or where.startswith(("/", "~")) or "\\" in where:
            raise _wrong(place, f'{text!r} is no path from the project, with "/", as in "../libs/common"')
        source = _beside(root, where, place)
        if not where.startswith("../"):
            # part of the project, and packed with it
            continue
        steps = where.split("/")
        up = steps.count("..")
        name = "/".join([INCLUDED, str(up), *steps[up:]])
        found[name] = source
        if source.is_dir():
            rules = [rule for rule in map(_read_rules, reversed(_repository_parents(source))) if rule]
            for path in _walk(source, source, rules):
                found[f"{name}/{path.relative_to(source).as_posix()}"] = path
    return found


def _beside(root: Path, where: str, place: str) -> Path:
    """The file or directory at `where`, after the way to it has been looked at."""
    top = Path(os.path.realpath(root))
    source = Path(os.path.normpath(top / where))
    if top == source or top.is_relative_to(source):
        raise _wrong(place, f"{where!r} holds the project itself; name the directory of one library")
    repository = next((parent for parent in (top, *top.parents) if (parent / ".git").exists()), None)
    if repository is not None and not source.is_relative_to(repository):
        raise _wrong(
            place, f"{where!r} is out of the repository {repository.name!r}; what is deployed comes from it"
        )
    shared = Path(os.path.commonpath([top, source]))
    step = shared
    for part in source.relative_to(shared).parts:
        step = step / part
        if step.is_symlink():
            raise _wrong(place, f"{where!r} leads through the link {part!r}; name the directory that it leads to")
    if not source.is_dir() and not source.is_file():
        raise _wrong(place, f"{where!r} is not there: looked for {source}")
    return source


def _wrong(place: str, message: str) -> CliError:
    return CliError(
        f"{CONFIG_NAME} includes what cannot be packed",
        code="invalid_config",
        fields=[{"path": place, "message": message}],
    )


@dataclass(frozen=True)
class _Rules:
    """The ignore files of one directory; later lines win over earlier ones."""

    directory: Path
    spec: Any

    def says(self, path: Path, is_directory: bool) -> bool | None:
        """True to leave `path` out, False to keep it, None to leave it to the rules further up."""
        name = path.relative_to(self.directory).as_posix() + ("/" if is_directory else "")
        result: bool | None = self.spec.check_file(name).include
        return result


def _walk(root: Path, directory: Path, above: list[_Rules]) -> Iterator[Path]:
    own = _read_rules(directory)
    rules = [*above, own] if own else above
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise CliError(f"{directory} cannot be read: {error}", code="unreadable") from None
    for entry in entries:
        path = Path(entry.path)
        is_directory = entry.is_dir(follow_symlinks=False)
        if (
            _never(path, is_directory)
            or (path.name == INCLUDED and directory == root)
            or _ignored(path, is_directory, rules)
        ):
            continue
        if is_directory:
            yield path
            yield from _walk(root, path, rules)
        elif entry.is_symlink():
            _check_link(root, path)
            yield path
        elif entry.is_file():
            yield path
        else:
            raise CliError(
                f"{path.relative_to(root)} is a pipe, a socket or a device; leave it out with .samovarignore",
                code="unpackable",
            )


def _never(path: Path, is_directory: bool) -> bool:
    if not is_directory:
        return path.suffix in _NEVER_SUFFIXES
    return path.name in _NEVER_DIRECTORIES or (path / "pyvenv.cfg").is_file()


def _ignored(path: Path, is_directory: bool, rules: list[_Rules]) -> bool:
    for rule in reversed(rules):
        said = rule.says(path, is_directory)
        if said is not None:
            return said
    return False


def _read_rules(directory: Path) -> _Rules | None:
    lines: list[str] = []
    for name in IGNORE_FILES:
        try:
            lines += (directory / name).read_text("utf-8", "replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise CliError(f"{directory / name} cannot be read: {error}", code="unreadable") from None
    if not lines:
        return None
    import pathspec  # what only reads a samovar.toml is spared it

    return _Rules(directory, pathspec.GitIgnoreSpec.from_lines(lines))


def _repository_parents(root: Path) -> list[Path]:
    """Directories above `root` up to the git repository's top, nearest first; none outside a repository."""
    if (root / ".git").exists():
        return []
    # absolute() and not resolve(): the rules compare paths as they are walked
    parents = list(root.absolute().parents)
    for number, parent in enumerate(parents):
        if (parent / ".git").exists():
            return parents[: number + 1]
    return []


def _check_link(root: Path, path: Path) -> None:
    target = os.readlink(path)
    shown = path.relative_to(root)
    inside = os.path.realpath(root) + os.sep
    if os.path.isabs(target) or not (os.path.realpath(path) + os.sep).startswith(inside):
        raise CliError(
            f"{shown} is a link to {target}, which is out of the project; copy the file in, or leave the link out "
            "with .samovarignore",
            code="unpackable",
        )


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    entry = tarfile.TarInfo(name)
    try:
        if path.is_symlink():
            entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.readlink(path)
            tar.addfile(entry)
        elif path.is_dir():
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        else:
            # read whole: a file that grows while it is packed would spoil the archive
            data = path.read_bytes()
            entry.size, entry.mode = len(data), 0o755 if path.stat().st_mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error}", code="unreadable") from None


def _check_size(entries: dict[str, Path], sizes: dict[str, int]) -> None:
    if len(entries) > MAX_FILES:
        raise CliError(
            f"the project has {len(entries)} files, and {MAX_FILES} are the most; leave some out with "
            ".samovarignore",
            code="too_large",
        )
    total = sum(sizes.values())
    if total > MAX_UNPACKED:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:5]
        raise CliError(
            f"the project is {_mib(total)}, and {_mib(MAX_UNPACKED)} is the most; leave data out with "
            ".samovarignore and bring it by a named mount. The largest files:",
            code="too_large",
            fields=[{"path": name, "message": _mib(sizes[name])} for name in largest],
        )


def _mib(count: int) -> str:
    return f"{count / 1024**2:.1f} MiB"
