"""samovar.toml, read strictly: what is not known is named, with the nearest known word."""

from __future__ import annotations

import difflib
import posixpath
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from images.allowed import reference
from images.errors import ConfigError

CONFIG_NAME = "samovar.toml"

#: The task options that [defaults] may set. Their values are checked by the SDK when it reads the tasks.
TASK_OPTIONS = (
    "retry",
    "memory",
    "cpu",
    "timeout",
    "ttl",
    "priority",
    "warm",
    "network",
    "secrets",
    "trust",
    "mounts",
    "queue",
    "concurrency_key",
    "total_timeout",
    "on_failure",
    "isolation",
    "start",
    "pids",
    "scratch",
    "machine",
)

_PROJECT = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_PYTHON = re.compile(r"3\.\d{1,2}")
_APT = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONGEST_VARIABLE = 32 * 1024
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def _version_text(value: object) -> object:
    # `python = 3.10` without quotes is the number 3.1, so a number is refused rather than guessed at
    if isinstance(value, (int, float)):
        raise ValueError(f'{value!r} needs quotes, as in python = "3.11"')
    return value


class ProjectTable(BaseModel):
    """`[project]` of samovar.toml."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(max_length=63)
    tasks: list[str] = Field(min_length=1)
    #: Before `requirements`, which may lie in one of them.
    include: list[str] = Field(default_factory=list, max_length=50)
    requirements: str | None = None
    extras: list[str] = Field(default_factory=list, max_length=100)
    groups: list[str] = Field(default_factory=list, max_length=100)
    python: Annotated[str | None, BeforeValidator(_version_text)] = None
    apt: list[str] = Field(default_factory=list)
    base: str | None = None
    #: What resolves and installs the requirements.
    installer: Literal["uv", "pip"] = "uv"

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _PROJECT.fullmatch(value):
            raise ValueError(
                f"{value!r} is no project name: lower-case letters, digits, and single '-', '_' or '.' between them"
            )
        return value

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, value: list[str]) -> list[str]:
        for module in value:
            if not _MODULE.fullmatch(module):
                raise ValueError(f'{module!r} is no module: write it as it is imported, as in "orders.tasks"')
        if len(set(value)) != len(value):
            raise ValueError("a module is listed twice")
        return value

    @field_validator("requirements")
    @classmethod
    def _requirements(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        include = [posixpath.normpath(path) for path in info.data.get("include", [])]
        path = posixpath.normpath(value)
        included = any(path == own or path.startswith(f"{own}/") for own in include)
        if not value or value.startswith("/") or (".." in value.split("/") and not included):
            raise ValueError(f"{value!r} is not a path inside the project, nor in one of include")
        return path

    @field_validator("include")
    @classmethod
    def _include(cls, value: list[str]) -> list[str]:
        for path in value:
            if not path or path.startswith(("/", "~")) or "\\" in path or not path.isprintable():
                raise ValueError(f'{path!r} is no path from the project, with "/", as in "../libs/common"')
            if set(posixpath.normpath(path).split("/")) <= {"..", "."}:
                raise ValueError(f"{path!r} holds the project itself; name the directory of one library")
        if len({posixpath.normpath(path) for path in value}) != len(value):
            raise ValueError("a path is listed twice")
        return value

    @field_validator("extras", "groups")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an extra or a group, as pyproject.toml declares them")
        return value

    @field_validator("python")
    @classmethod
    def _python(cls, value: str | None) -> str | None:
        if value is not None and not _PYTHON.fullmatch(value):
            raise ValueError(f'{value!r} is no Python version: give major and minor, as in "3.11"')
        if value is not None and int(value.split(".")[1]) < 9:
            raise ValueError(f"{value!r} is too old: tasks need Python 3.9 or later")
        return value

    @field_validator("apt")
    @classmethod
    def _apt(cls, value: list[str]) -> list[str]:
        for package in value:
            if not _APT.fullmatch(package):
                raise ValueError(f'{package!r} is no Debian package: a name, as in "libpq5", or "name=version"')
        return value

    @field_validator("base")
    @classmethod
    def _base(cls, value: str | None) -> str | None:
        if value is not None:
            reference(value)
        return value


@dataclass(frozen=True)
class Config:
    """A project's samovar.toml: what to build, and the options its tasks start from."""

    project: ProjectTable
    defaults: dict[str, Any] = field(default_factory=dict)
    #: Plain variables of the environment, for the import of the modules and for runs.
    env: dict[str, str] = field(default_factory=dict)


def read_config(root: Path) -> Config:
    """The samovar.toml in `root`. Raises ConfigError naming every field that is wrong."""
    path = root / CONFIG_NAME
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"the project has no {CONFIG_NAME} at its top; `samovar init` writes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{CONFIG_NAME} cannot be read: {error}") from None
    return parse_config(text)


def parse_config(text: str) -> Config:
    """The configuration in `text`. Raises ConfigError naming every field that is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{CONFIG_NAME} is not valid TOML: {error}") from None

    problems: dict[str, str] = {}
    # beside the tables it reads as well: what is included belongs to the whole project
    if "include" in document and isinstance(document.get("project"), dict):
        document["project"].setdefault("include", document.pop("include"))
    for key in document.keys() - {"project", "defaults", "env"}:
        problems[key] = _unknown(key, ("project", "defaults", "env"), "table")
    defaults = document.get("defaults", {})
    problems |= _check_defaults(defaults)
    env, wrong = _read_env(document.get("env", {}))
    problems |= wrong

    table = document.get("project")
    project: ProjectTable | None = None
    if not isinstance(table, dict):
        problems["project"] = 'missing: the table [project] with name = "…" and tasks = ["module"]'
    else:
        try:
            project = ProjectTable.model_validate(table)
        except ValidationError as error:
            problems |= _problems(error)
    if problems or project is None:
        named = ", ".join(problems)
        raise ConfigError(f"{CONFIG_NAME} is not right: {named}", fields=problems)
    return Config(project, dict(defaults), env)


def _read_env(table: object) -> tuple[dict[str, str], dict[str, str]]:
    """`[env]` as variables, and what is wrong with it."""
    if not isinstance(table, dict):
        return {}, {"env": 'a table of variables is wanted: [env] with NAME = "value"'}
    found, problems = {}, {}
    for name, value in table.items():
        path = f"env.{name}"
        if not _VARIABLE.fullmatch(name):
            problems[path] = (
                "no name of an environment variable: letters, digits and '_', not beginning with a digit"
            )
        elif name.startswith("SAMOVAR_"):
            problems[path] = "names that begin with SAMOVAR_ are Samovar's own: take another"
        elif isinstance(value, bool):
            problems[path] = f'{str(value).lower()} could be written in many ways: put it in quotes, as in "1"'
        elif not isinstance(value, (str, int, float)):
            problems[path] = f"a {type(value).__name__} is no value of a variable: put it in quotes"
        elif "\0" in str(value) or len(str(value)) > _LONGEST_VARIABLE:
            problems[path] = f"the value is too long (at most {_LONGEST_VARIABLE} characters), or holds a NUL"
        else:
            found[name] = str(value)
    return found, problems


def _check_defaults(defaults: object) -> dict[str, str]:
    if not isinstance(defaults, dict):
        return {"defaults": "a table of task options is wanted: [defaults]"}
    problems = {
        f"defaults.{key}": _unknown(key, TASK_OPTIONS, "task option") for key in defaults if key not in TASK_OPTIONS
    }
    for path, value in _leaves("defaults", defaults):
        if not isinstance(value, (str, int, float, bool)):
            problems[path] = f"a {type(value).__name__} is no value of a task option"
    return problems


def _leaves(path: str, value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(f"{path}[{number}]", inner)
    else:
        yield path, value


def _problems(error: ValidationError) -> dict[str, str]:
    problems = {}
    for item in error.errors():
        path = "project" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"])
        value = item.get("input")
        match item["type"]:
            case "extra_forbidden":
                text = _unknown(str(item["loc"][-1]), tuple(ProjectTable.model_fields), "key")
            case "missing":
                text = "missing"
            case "value_error":
                text = item["msg"].removeprefix("Value error, ")
            case "string_type":
                text = f"{value!r} is not text: put it in quotes"
            case "list_type":
                text = f'{value!r} is not a list: write it as in ["…"]'
            case _:
                text = f"{value!r}: {item['msg'][0].lower()}{item['msg'][1:]}"
        problems[path] = text
    return problems


def _unknown(word: str, known: Iterable[str], kind: str) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, 1, 0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown {kind} {word!r}; {hint}"
