"""samovar.toml: what is taken, and how each wrong thing is named."""

from __future__ import annotations

import pytest

from images.config import parse_config, read_config
from images.errors import ConfigError

GOOD = """
[project]
name = "orders"
tasks = ["orders.tasks", "reports"]
requirements = "requirements.txt"
python = "3.11"
apt = ["libpq5", "curl=7.88.1-10"]

[defaults]
memory = "512m"
retry = { max_attempts = 3 }
"""


def fields(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return {field.path: field.message for field in caught.value.problem.fields}


def test_everything_that_is_known_is_taken() -> None:
    config = parse_config(GOOD)
    assert config.project.name == "orders"
    assert config.project.tasks == ["orders.tasks", "reports"]
    assert config.project.apt == ["libpq5", "curl=7.88.1-10"]
    assert config.defaults == {"memory": "512m", "retry": {"max_attempts": 3}}


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (GOOD + "[projekt]\n", "projekt", "did you mean 'project'"),
        (GOOD.replace("requirements =", "requirement ="), "project.requirement", "did you mean 'requirements'"),
        (GOOD.replace("memory =", "memmory ="), "defaults.memmory", "did you mean 'memory'"),
        (GOOD + 'cue = "x"\n', "defaults.cue", "unknown task option 'cue'"),
        (GOOD.replace('"orders"\n', '"My Orders"\n'), "project.name", "'My Orders'"),
        (GOOD.replace('name = "orders"\n', ""), "project.name", "missing"),
        (GOOD.replace('["orders.tasks", "reports"]', '"orders.tasks"'), "project.tasks", "is not a list"),
        (GOOD.replace('"reports"', '"orders/tasks.py"'), "project.tasks", "as it is imported"),
        (GOOD.replace('"reports"', '"orders.tasks"'), "project.tasks", "twice"),
        (GOOD.replace('"3.11"', "3.11"), "project.python", "needs quotes"),
        (GOOD.replace('"3.11"', '"3.7"'), "project.python", "too old"),
        (GOOD.replace('"libpq5"', '"libpq5; rm -rf /"'), "project.apt", "no Debian package"),
        (GOOD.replace('"libpq5"', '"-oDebug=1"'), "project.apt", "no Debian package"),
        (GOOD.replace('"requirements.txt"', '"../secrets.txt"'), "project.requirements", "inside the project"),
        (GOOD + "ttl = 1979-05-27\n", "defaults.ttl", "date"),
        ("[defaults]\n", "project", "missing"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, path: str, words: str) -> None:
    assert words in fields(text)[path]


def test_every_wrong_field_is_named_at_once() -> None:
    found = fields('[project]\nname = "A"\ntasks = []\nextra = 1\n[defaults]\nmem = 1\n')
    assert set(found) == {"project.name", "project.tasks", "project.extra", "defaults.mem"}


def test_a_syntax_error_says_the_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse_config("[project]\nname = orders\n")


def test_a_project_without_a_config_says_how_to_get_one(tmp_path) -> None:
    with pytest.raises(ConfigError, match="samovar init"):
        read_config(tmp_path)


def test_a_mark_before_the_first_letter_is_no_letter(tmp_path) -> None:
    (tmp_path / "samovar.toml").write_bytes(b'\xef\xbb\xbf[project]\r\nname = "orders"\r\ntasks = ["tasks"]\r\n')
    assert read_config(tmp_path).project.name == "orders"


@pytest.mark.parametrize("text", ['include = ["../libs/a"]\n{}', '{}include = ["../libs/a"]\n'])
def test_include_stands_in_the_table_or_above_it(text: str) -> None:
    table = '[project]\nname = "orders"\ntasks = ["tasks"]\n'
    assert parse_config(text.format(table)).project.include == ["../libs/a"]


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        ('include = ["/srv/libs"]', "project.include", "no path from the project"),
        ('include = ["~/libs"]', "project.include", "no path from the project"),
        ('include = ["..\\\\libs"]', "project.include", "no path from the project"),
        ('include = ["../.."]', "project.include", "holds the project itself"),
        ('include = ["."]', "project.include", "holds the project itself"),
        ('include = ["../a", "../a/"]', "project.include", "listed twice"),
        ('include = "../a"', "project.include", "not a list"),
        ('extras = ["a b"]', "project.extras", "'a b' is no name"),
        ('groups = [""]', "project.groups", "'' is no name"),
        ('requirements = "../../uv.lock"', "project.requirements", "nor in one of include"),
        ('includes = ["../a"]', "project.includes", "did you mean 'include'"),
    ],
)
def test_what_dependencies_may_not_say_is_named_with_its_value(line: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'[project]\nname = "orders"\ntasks = ["tasks"]\n{line}\n')
    assert words in {field.path: field.message for field in caught.value.problem.fields}[path]
