"""Every way a Python project says what it needs: it is planned, or refused with its line and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images.config import ProjectTable
from images.dependencies import Answer, Plan, Target, Tree, make_plan
from images.dependencies.imports import site_files
from images.dependencies.target import guess
from images.errors import ConfigError

HERE = guess("3.11", [])
NO_GIT = Target({**HERE.environment}, exact=True, git=False)
SHA = "sha256:" + "ab" * 32


def write(root: Path, files: dict[str, str | bytes]) -> None:
    """The source as a builder has it unpacked."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def planned(
    root: Path,
    files: dict[str, str | bytes],
    *,
    target: Target = HERE,
    answers: dict[str, Answer] | None = None,
    **project: object,
) -> Plan:
    write(root, files)
    table = ProjectTable.model_validate({"name": "orders", "tasks": ["tasks"], **project})
    return make_plan(Tree(root, table.include), table, target, answers)


def lines(plan: Plan, file: str = "requirements.txt") -> list[str]:
    return plan.files[file].decode().splitlines() if file in plan.files else []


def refused(
    root: Path, files: dict[str, str | bytes], *, target: Target = HERE, **project: object
) -> dict[str, str]:
    """What is said of each place, where nothing may be built."""
    with pytest.raises(ConfigError) as caught:
        planned(root, files, target=target, **project)
    return {field.path: field.message for field in caught.value.problem.fields}


# ---- requirements files


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: ("# f\xfcr M\xfcller\n" + text).encode("latin-1"),
    ],
    ids=["bom", "utf-16", "le", "be", "le-bare", "be-bare", "crlf", "latin-1"],
)
def test_a_file_is_read_in_the_encoding_that_an_editor_or_powershell_gave_it(tmp_path, encode) -> None:
    plan = planned(tmp_path, {"requirements.txt": encode("six==1.16.0\nidna>=3 ; python_version > '3'\n")})
    assert lines(plan) == ["six==1.16.0", "idna>=3 ; python_version > '3'"]


def test_a_line_that_is_none_is_named_in_utf_16_too(tmp_path) -> None:
    said = refused(tmp_path, {"requirements.txt": "six\nno such thing\n".encode("utf-16")})
    assert list(said) == ["requirements.txt:2"]


def test_what_pip_knows_of_where_packages_come_from_goes_through(tmp_path) -> None:
    text = (
        "--index-url https://index.example/simple\n-i https://other.example/simple\n"
        "--extra-index-url=https://more.example/simple\n--no-binary :all:\n--pre\n--only-binary=numpy\n"
        "--find-links https://links.example/\nsix ; sys_platform == 'linux'\n"
        "https://files.example/a-1-py3-none-any.whl\nb @ https://files.example/b.tar.gz#sha256=ab\n"
        "c @ git+https://code.example/c@v1#subdirectory=py\ngit+https://code.example/d.git\n"
    )
    assert lines(planned(tmp_path, {"requirements.txt": text})) == text.splitlines()


def test_hashes_over_several_lines_stay_with_their_requirement(tmp_path) -> None:
    text = f"six==1.16.0 \\\n    --hash={SHA} \\\n    --hash={SHA[:-1]}c   # via x\n"
    assert lines(planned(tmp_path, {"requirements.txt": text})) == [f"six==1.16.0 --hash={SHA} --hash={SHA[:-1]}c"]


def test_files_are_found_relative_to_the_one_that_names_them(tmp_path) -> None:
    plan = planned(
        tmp_path,
        {
            "requirements.txt": "-r deploy/base.txt\n-cdeploy/limits.txt\n",
            "deploy/base.txt": '--requirement=more/web.txt\n-r "more/db.txt"\n',
            "deploy/more/web.txt": "-c ../limits.txt\nhttpx\n",
            "deploy/more/db.txt": "psycopg\n",
            "deploy/limits.txt": "httpx<1\n",
        },
    )
    assert lines(plan) == ["httpx", "psycopg"]
    assert set(lines(plan, "constraints.txt")) == {"httpx<1"}
    assert plan.place_of("psycopg") == "deploy/more/db.txt:1"


def test_a_folder_of_wheels_goes_along(tmp_path) -> None:
    plan = planned(tmp_path, {"requirements.txt": "--find-links ./vendor\nmine\n", "vendor/mine-1.whl": b"w"})
    assert lines(plan) == ["--find-links ./links/0", "mine"]
    assert plan.trees == {"links/0": tmp_path / "vendor"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("six @ file:///home/anna/six", ("pip freeze", "six==VERSION")),
        ("six @ file:///C:/Users/anna/six.whl", ("pip freeze", "six==VERSION")),
        ("-e ../libs/common", ('include = ["../libs/common"]',)),
        ("../libs/common", ('include = ["../libs/common"]',)),
        ("./libs/common", ("not in the source", "include")),
        ("libs/common", ("not in the source", "include")),
        ("-e ./libs/common[x]", ("not in the source",)),
        ("/srv/wheels/a.whl", ("one machine", "relative")),
        ("~/wheels/a.whl", ("one machine",)),
        (".\\libs\\common", ("'libs/common'", "not in the source")),
        ("-r ../shared/base.txt", ("not a file in the project", "include")),
        ("--find-links ../wheels", ('include = ["../wheels"]',)),
        ("--find-links /srv/wheels", ("one machine",)),
        ("--index-url https://${TOKEN}@index.example/simple", ("variable", "PIP_INDEX_URL")),
        ("six==${VERSION}", ("variable",)),
        ("--target /usr/lib", ("--target", "take the line out")),
        ("-e six", ("neither a directory",)),
        ("git+ssh://git@code.example/a.git", ("ssh key", "git+https")),
        ("six=1.0", ("not a requirement",)),
        ("./readme.md", ("neither a directory nor a wheel",)),
        ("-e ./docs", ("no pyproject.toml or setup.py", "include")),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_the_way_out(tmp_path, line: str, words: tuple[str, ...]) -> None:
    said = refused(tmp_path, {"requirements.txt": f"six\n{line}\n", "readme.md": "", "docs/a.md": ""})
    assert list(said) == ["requirements.txt:2"]
    for word in words:
        assert word in said["requirements.txt:2"]


def test_git_has_to_be_in_the_image_and_apt_can_bring_it(tmp_path) -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "a @ git+https://code.example/a\n"}
    assert 'apt = ["git"]' in refused(tmp_path, files, target=NO_GIT)["requirements.txt:1"]
    assert lines(planned(tmp_path, files, target=Target(HERE.environment, True, git=False, apt=("git",))))


def test_an_editable_repository_is_installed_as_it_is(tmp_path) -> None:
    text = "-e git+https://code.example/a.git@v1#egg=a[x]&subdirectory=py\n"
    assert lines(planned(tmp_path, {"requirements.txt": text})) == [
        "a[x] @ git+https://code.example/a.git@v1#subdirectory=py"
    ]


PACKAGE = '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "{}"\nversion = "1"\ndependencies = {}\n'


@pytest.mark.parametrize("line", ["-e ./libs/common", "./libs/common", "libs/common", "file:libs/common"])
def test_a_local_library_is_installed_and_what_it_needs_comes_from_the_index(tmp_path, line: str) -> None:
    common = PACKAGE.format("common", '["six"]')
    plan = planned(tmp_path, {"requirements.txt": f"{line}\nidna\n", "libs/common/pyproject.toml": common})
    assert lines(plan) == ["idna", "six"]
    assert [library.where for library in plan.libraries] == ["libs/common"]
    assert plan.place_of("six") == "libs/common/pyproject.toml dependencies[0]"


def test_a_name_that_the_source_holds_is_never_asked_of_an_index(tmp_path) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "-e ./libs/a\ncommon-lib>=1\n",
        "libs/a/pyproject.toml": PACKAGE.format("a", '["Common_Lib", "six"]'),
        "libs/common/pyproject.toml": PACKAGE.format("common.lib", "[]"),
    }
    plan = planned(tmp_path, files, include=["libs/common"])
    assert lines(plan) == ["six"]
    assert {library.where for library in plan.libraries} == {"libs/a", "libs/common"}


def test_the_project_itself_as_a_requirement_is_what_it_needs(tmp_path) -> None:
    pyproject = PACKAGE.format("orders", '["six"]') + '[project.optional-dependencies]\nweb = ["idna"]\n'
    plan = planned(tmp_path, {"requirements.txt": "-e .[web]\n", "pyproject.toml": pyproject})
    assert lines(plan) == ["six", "idna"]
    assert plan.libraries == []


def test_hashes_of_a_file_and_libraries_without_are_two_steps(tmp_path) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": f"--pre\nsix==1.16.0 --hash={SHA}\n-e ./libs/common\n",
        "libs/common/pyproject.toml": PACKAGE.format("common", '["six", "idna"]'),
    }
    plan = planned(tmp_path, files)
    assert [step.file for step in plan.steps] == ["requirements.txt", "libraries.txt"]
    assert lines(plan) == ["--pre", f"six==1.16.0 --hash={SHA}"]
    assert lines(plan, "libraries.txt") == ["--pre", "six", "idna"]


def test_a_path_with_a_marker_is_taken_where_that_holds(tmp_path) -> None:
    text = "./libs/a ; sys_platform == 'win32'\n./libs/b ; sys_platform == 'linux'\n"
    files = {f"libs/{name}/pyproject.toml": PACKAGE.format(name, "[]") for name in "ab"}
    plan = planned(tmp_path, {"requirements.txt": text, **files})
    assert [library.where for library in plan.libraries] == ["libs/b"]


@pytest.mark.parametrize("name", ["requirements-prod.txt", "requirements/base.txt", "requirements.in"])
def test_a_file_that_nobody_names_is_not_passed_over_in_silence(tmp_path, name: str) -> None:
    plan = planned(tmp_path, {name: "six\n"})
    assert plan.empty
    assert f'requirements = "{name}"' in plan.notices[0]


def test_the_sdk_as_a_library_is_left_out_too(tmp_path) -> None:
    sdk = PACKAGE.format("samovar", "[]")
    files: dict[str, str | bytes] = {"requirements.txt": "-e ./sdk\n", "sdk/pyproject.toml": sdk}
    plan = planned(tmp_path, files)
    assert (plan.libraries, plan.left_out) == ([], ["requirements.txt:1: sdk"])


def test_the_projects_own_name_is_not_asked_of_an_index(tmp_path) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "Orders==0.1\nsix\n",
        "pyproject.toml": PACKAGE.format("orders", "[]"),
    }
    plan = planned(tmp_path, files)
    assert lines(plan) == ["six"]
    assert "requirements.txt:1: orders is in the source, and comes from no index" in plan.notices


# ---- pyproject.toml


def test_without_a_word_in_samovar_toml_a_pyproject_is_read(tmp_path) -> None:
    plan = planned(tmp_path, {"pyproject.toml": PACKAGE.format("orders", '["six"]')})
    assert (plan.source, lines(plan)) == ("pyproject.toml", ["six"])
    assert plan.project == ("orders", "1")


def test_a_pyproject_of_tools_asks_for_nothing(tmp_path) -> None:
    assert planned(tmp_path, {"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}).empty


def test_a_requirements_file_comes_first_and_what_stays_unread_is_said(tmp_path) -> None:
    plan = planned(tmp_path, {"requirements.txt": "six\n", "pyproject.toml": PACKAGE.format("x", '["idna"]')})
    assert lines(plan) == ["six"]
    assert plan.notices == ["dependencies come from requirements.txt, and not from pyproject.toml"]


@pytest.mark.parametrize("name", ["Pipfile", "environment.yml"])
def test_what_pip_cannot_read_is_refused_and_not_passed_over(tmp_path, name: str) -> None:
    assert name in refused(tmp_path, {name: "x"})["project.requirements"]
    assert planned(tmp_path, {"requirements.txt": "six\n"}).source == "requirements.txt"


DYNAMIC = '[build-system]\nrequires = ["{0}"]\nbuild-backend = "{1}"\n[project]\nname = "orders"\n{2}\n'
SETUPTOOLS = ("setuptools", "setuptools.build_meta")


def test_dynamic_dependencies_in_files_of_setuptools(tmp_path) -> None:
    pyproject = (
        DYNAMIC.format(*SETUPTOOLS, 'dynamic = ["version", "dependencies", "optional-dependencies"]')
        + '[tool.setuptools.dynamic]\ndependencies = {file = ["reqs/base.in", "reqs/more.in"]}\n'
        + '[tool.setuptools.dynamic.optional-dependencies]\nweb = {file = "reqs/web.in"}\n'
    )
    files: dict[str, str | bytes] = {
        "pyproject.toml": pyproject,
        "reqs/base.in": "six\n",
        "reqs/more.in": "idna\n",
        "reqs/web.in": "certifi\n",
    }
    plan = planned(tmp_path, files, extras=["web"])
    assert lines(plan) == ["six", "idna", "certifi"]
    assert plan.ask == []
    assert plan.place_of("idna") == "reqs/more.in:1"


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": DYNAMIC.format("hatchling", "hatchling.build", 'dynamic = ["dependencies"]')},
        {"pyproject.toml": DYNAMIC.format(*SETUPTOOLS, 'dynamic = ["dependencies"]'), "setup.py": "x"},
        {"setup.py": "from setuptools import setup\nsetup(install_requires=['six'])\n"},
        {"pyproject.toml": '[build-system]\nrequires = ["flit_core"]\n[tool.flit.metadata]\nmodule = "orders"\n'},
        {
            "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n',
            "setup.cfg": "[metadata]\nname = orders\n",
        },
    ],
    ids=["hatch", "setup.py beside", "setup.py", "flit", "setup.cfg"],
)
def test_what_only_a_build_backend_knows_it_is_asked_for(tmp_path, files: dict[str, str | bytes]) -> None:
    plan = planned(tmp_path, files)
    assert [library.where for library in plan.ask] == ["."]
    said = Answer("orders", "2.1", ["six>=1", 'idna; extra == "web"', 'pywin32; sys_platform == "win32"'])
    plan = planned(tmp_path, {}, answers={".": said})
    assert (plan.ask, lines(plan), plan.project) == ([], ["six>=1"], ("orders", "2.1"))
    plan = planned(tmp_path, {}, answers={".": said}, requirements=next(iter(files)), extras=["web"])
    assert lines(plan) == ["six>=1", "idna"]


def test_what_a_backend_says_is_held_against_the_source_too(tmp_path) -> None:
    files: dict[str, str | bytes] = {"setup.py": ""}
    write(tmp_path, files)
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, {}, answers={".": Answer("orders", "1", ["common @ file:///srv/libs/common"])})
    assert "include" in caught.value.problem.fields[0].message


EXTRAS = """
[project.optional-dependencies]
Web_UI = ["flask"]
all = ["orders[web-ui,gpu]"]
gpu = ["torch"]
[dependency-groups]
test = ["pytest", {include-group = "lint"}]
lint = ["ruff"]
loop = [{include-group = "loop"}]
"""


def test_extras_and_groups(tmp_path) -> None:
    files: dict[str, str | bytes] = {"pyproject.toml": PACKAGE.format("orders", '["six"]') + EXTRAS}
    assert lines(planned(tmp_path, files, extras=["web-ui"])) == ["six", "flask"]
    assert set(lines(planned(tmp_path, files, extras=["all"]))) == {"six", "flask", "torch"}
    assert set(lines(planned(tmp_path, files, groups=["test"]))) == {"six", "pytest", "ruff"}
    # asked for, they are a reason to read the pyproject.toml beside a requirements file
    assert lines(planned(tmp_path, {**files, "requirements.txt": "idna\n"}, extras=["gpu"])) == ["six", "torch"]


def test_extras_and_groups_that_nobody_declares_are_named_with_those_there_are(tmp_path) -> None:
    files: dict[str, str | bytes] = {"pyproject.toml": PACKAGE.format("orders", "[]") + EXTRAS}
    said = refused(tmp_path, files, extras=["webb"], groups=["tests"])
    assert "'webb' is no extra" in said["project.extras webb"]
    assert "Web_UI" in said["project.extras webb"]
    assert "test, lint" in said["project.groups tests"]
    assert "includes itself" in refused(tmp_path, files, groups=["loop"])["pyproject.toml dependency-groups.loop"]
    said = refused(tmp_path, {"requirements.txt": "six\n"}, requirements="requirements.txt", extras=["gpu"])
    assert "-e .[gpu]" in said["project.extras"]


def test_a_python_that_the_project_does_not_admit_is_refused(tmp_path) -> None:
    files: dict[str, str | bytes] = {"pyproject.toml": PACKAGE.format("x", "[]") + 'requires-python = ">=3.13"\n'}
    exact = Target(HERE.environment, exact=True)
    assert "'>=3.13'" in refused(tmp_path, files, target=exact)["pyproject.toml requires-python"]
    assert planned(tmp_path, files).empty


UV = """
[tool.uv.sources]
common = {path = "../libs/common", editable = true}
tool = {git = "https://code.example/tool", tag = "v1", subdirectory = "py"}
wheel = {url = "https://files.example/wheel-1-py3-none-any.whl"}
torch = {index = "gpu"}
member = {workspace = true}
[[tool.uv.index]]
name = "gpu"
url = "https://gpu.example/simple"
explicit = true
[tool.uv.workspace]
members = ["packages/*"]
"""


def test_sources_and_indexes_of_uv(tmp_path) -> None:
    needs = '["common", "tool[x]", "wheel", "torch", "member"]'
    files: dict[str, str | bytes] = {
        "pyproject.toml": PACKAGE.format("orders", needs) + UV,
        ".samovar-include/1/libs/common/pyproject.toml": PACKAGE.format("common", '["six"]'),
        "packages/member/pyproject.toml": PACKAGE.format("member", '["idna"]'),
    }
    plan = planned(tmp_path, files, include=["../libs/common"])
    assert lines(plan) == [
        "six",
        "--extra-index-url https://gpu.example/simple",
        "tool[x] @ git+https://code.example/tool@v1#subdirectory=py",
        "wheel @ https://files.example/wheel-1-py3-none-any.whl",
        "torch",
        "idna",
    ]
    assert {library.where for library in plan.libraries} == {"../libs/common", "packages/member"}
    assert "a lock with hashes" in plan.notices[0]
    said = refused(tmp_path, {})
    assert 'include = ["../libs/common"]' in said["pyproject.toml dependencies[0]"]


@pytest.mark.parametrize("prefix", ["{root:uri}/", "file:///${PROJECT_ROOT}/"])
def test_paths_as_hatch_and_pdm_write_them(tmp_path, prefix: str) -> None:
    files: dict[str, str | bytes] = {
        "pyproject.toml": PACKAGE.format("orders", f'["common @ {prefix}libs/common"]'),
        "libs/common/pyproject.toml": PACKAGE.format("common", '["six"]'),
    }
    plan = planned(tmp_path, files)
    assert ([library.where for library in plan.libraries], lines(plan)) == (["libs/common"], ["six"])


POETRY = """
[tool.poetry]
name = "orders"
version = "0.3.0"
[tool.poetry.dependencies]
python = "^3.10"
a = "^1.2.3"
b = "^0.2"
c = "~1.4"
d = {version = "2.*", extras = ["x"], markers = "sys_platform == 'linux'"}
e = {git = "https://code.example/e", branch = "main"}
f = {version = "1.0", optional = true}
g = [{version = "<2", python = "<3.8"}, {version = ">=2", python = ">=3.8"}]
h = "*"
[tool.poetry.extras]
fast = ["f"]
[tool.poetry.group.dev.dependencies]
i = ">=1 <2"
[[tool.poetry.source]]
name = "own"
url = "https://own.example/simple"
"""


def test_a_table_of_poetry_without_a_lock(tmp_path) -> None:
    plan = planned(tmp_path, {"pyproject.toml": POETRY}, extras=["fast"], groups=["dev"])
    assert lines(plan) == [
        "--extra-index-url https://own.example/simple",
        "a>=1.2.3,<2",
        "b>=0.2,<0.3",
        "c>=1.4,<1.5",
        "d[x]==2.* ; (sys_platform == 'linux')",
        "e @ git+https://code.example/e@main",
        "f==1.0",
        'g<2 ; python_full_version < "3.8"',
        'g>=2 ; python_full_version >= "3.8"',
        "h",
        "i>=1,<2",
    ]


# ---- locks


def package(name: str, source: str, more: str = "", sha: str = SHA) -> str:
    hashed = f'wheels = [{{ url = "https://f.example/{name}.whl", hash = "{sha}" }}]\n' if sha else ""
    return f'[[package]]\nname = "{name}"\nversion = "1.0"\nsource = {{ {source} }}\n{hashed}{more}\n'


PYPI = 'registry = "https://pypi\x2eorg/simple"'
UV_LOCK = (
    'version = 1\nrequires-python = ">=3.9"\n'
    + package(
        "orders",
        'virtual = "."',
        'dependencies = [{ name = "six" }, { name = "own" }, { name = "bare" }, { name = "tool" },'
        ' { name = "win", marker = "sys_platform == \'win32\'" }, { name = "lib" },'
        ' { name = "rich", extra = ["x"] },'
        ' { name = "samovar" }]\n'
        '[package.optional-dependencies]\nweb = [{ name = "flask" }]\n'
        '[package.dev-dependencies]\ndev = [{ name = "pytest" }]\n',
        sha="",
    )
    + package("six", PYPI)
    + package("own", 'registry = "https://own.example/simple"', 'dependencies = [{ name = "deep" }]')
    + package("bare", 'registry = "https://own.example/simple"', sha="")
    + package("tool", 'git = "https://code.example/tool?rev=v1&subdirectory=py#c0ffee"', sha="")
    + package("win", PYPI)
    + package("lib", 'editable = "libs/lib"', 'dependencies = [{ name = "idna" }]', sha="")
    + package("rich", PYPI, '[package.optional-dependencies]\nx = [{ name = "extra-of-rich" }]')
    + "".join(package(name, PYPI) for name in ("deep", "idna", "flask", "pytest", "extra-of-rich", "samovar"))
)
LIBRARY: dict[str, str | bytes] = {"libs/lib/pyproject.toml": PACKAGE.format("lib", '["not-locked"]')}


def steps(plan: Plan) -> dict[str, list[str]]:
    """By the option that says where from, the names that are installed."""
    found: dict[str, list[str]] = {}
    for step in plan.steps:
        text = lines(plan, step.file)
        head = text.pop(0) if text[0].startswith("--") else ""
        hashed = " hashed" if "--hash" in text[0] else ""
        found[head + hashed] = [line.split("==")[0].split(" @")[0] for line in text]
    return found


def test_a_uv_lock_keeps_its_indexes_and_hashes(tmp_path) -> None:
    plan = planned(tmp_path, {"uv.lock": UV_LOCK, **LIBRARY})
    assert steps(plan) == {
        " hashed": ["deep", "extra-of-rich", "idna", "rich", "six"],
        "": ["tool"],
        "--extra-index-url https://own.example/simple hashed": ["own"],
        # nothing says which file it is, so no other index may offer one of the name
        "--index-url https://own.example/simple": ["bare"],
    }
    assert all(step.no_deps for step in plan.steps)
    assert [library.where for library in plan.libraries] == ["libs/lib"]
    assert "tool @ git+https://code.example/tool@c0ffee#subdirectory=py" in str(plan.files)
    assert plan.left_out == ["uv.lock: samovar: samovar"]


def test_an_index_without_encryption_is_used_where_hashes_hold(tmp_path) -> None:
    lock = UV_LOCK.replace("https://own.example/", "http://own.example:8080/")
    said = refused(tmp_path, {"uv.lock": lock, **LIBRARY})
    assert list(said) == ["uv.lock: bare"]
    assert "hashes" in said["uv.lock: bare"]
    plan = planned(tmp_path, {"uv.lock": lock.replace(' { name = "bare" },', "")})
    assert lines(plan, "locked-3.txt")[:2] == [
        "--extra-index-url http://own.example:8080/simple",
        "--trusted-host own.example:8080",
    ]


def test_extras_and_groups_of_a_uv_lock(tmp_path) -> None:
    files = {"uv.lock": UV_LOCK, **LIBRARY}
    plan = planned(tmp_path, files, extras=["web"], groups=["dev"])
    assert {"flask", "pytest"} <= set(steps(plan)[" hashed"])
    said = refused(tmp_path, files, extras=["nope"])
    assert "there is web" in said["project.extras nope"] or "there are web" in said["project.extras nope"]


def test_a_member_of_a_uv_workspace_that_is_not_deployed_is_refused(tmp_path) -> None:
    said = refused(tmp_path, {"uv.lock": UV_LOCK.replace("libs/lib", "../lib")})
    assert 'include = ["../lib"]' in said["uv.lock: lib"]


def test_a_uv_lock_above_the_project_is_read_where_it_is_included(tmp_path) -> None:
    lock = UV_LOCK.replace('virtual = "."', 'editable = "services/orders"')
    files: dict[str, str | bytes] = {
        ".samovar-include/2/uv.lock": lock,
        ".samovar-include/2/libs/lib/pyproject.toml": PACKAGE.format("lib", "[]"),
    }
    above = {"include": ["../../uv.lock", "../../libs/lib"], "requirements": "../../uv.lock"}
    # its members are named by their places, and the project does not know its own from inside
    assert "holds no package for this directory" in str(refused(tmp_path, files, **above))
    plan = planned(tmp_path, {"pyproject.toml": PACKAGE.format("orders", "[]")}, **above)
    assert "six" in steps(plan)[" hashed"]
    assert [library.where for library in plan.libraries] == ["../../libs/lib"]


def test_forks_of_a_uv_lock_are_chosen_by_where_they_hold(tmp_path) -> None:
    lock = (
        "version = 1\n"
        + package("orders", 'virtual = "."', 'dependencies = [{ name = "numpy" }]', sha="")
        + '[[package]]\nname = "numpy"\nversion = "1.0"\nsource = { registry = "https://pypi\x2eorg/simple" }\n'
        + "resolution-markers = [\"python_full_version < '3.9'\"]\n"
        + '[[package]]\nname = "numpy"\nversion = "2.0"\nsource = { registry = "https://pypi\x2eorg/simple" }\n'
        + "resolution-markers = [\"python_full_version >= '3.9'\"]\n"
    )
    assert lines(planned(tmp_path, {"uv.lock": lock}), "locked-1.txt") == ["numpy==2.0"]


def test_a_lock_that_lacks_what_it_needs_or_cannot_be_read_is_refused(tmp_path) -> None:
    lock = UV_LOCK.replace('{ name = "six" }', '{ name = "gone" }')
    assert "run `uv lock`" in refused(tmp_path, {"uv.lock": lock, **LIBRARY})["uv.lock: gone"]
    assert "not valid TOML" in refused(tmp_path, {"uv.lock": "version ="})["uv.lock"]
    assert "no marker" in str(caught_message(tmp_path, {"uv.lock": UV_LOCK.replace("sys_platform ==", "what ==")}))


def caught_message(root: Path, files: dict[str, str | bytes]) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(root, files)
    return caught.value.problem.message


POETRY_LOCK = f"""
[[package]]
name = "a"
version = "1.3.0"
files = [{{file = "a.whl", hash = "{SHA}"}}]
[package.dependencies]
deep = ">=1"
win = {{version = "*", markers = "sys_platform == 'win32'"}}
opt = {{version = "*", optional = true}}
[package.extras]
more = ["opt (>=1)"]
[[package]]
name = "deep"
version = "1.1"
files = [{{file = "deep.whl", hash = "{SHA}"}}]
[[package]]
name = "opt"
version = "2"
files = [{{file = "opt.whl", hash = "{SHA}"}}]
[[package]]
name = "own"
version = "3"
files = [{{file = "own.whl", hash = "{SHA}"}}]
[package.source]
type = "legacy"
url = "https://own.example/simple"
reference = "own"
[[package]]
name = "code"
version = "4"
files = []
[package.source]
type = "git"
url = "https://code.example/code"
reference = "main"
resolved_reference = "c0ffee"
[[package]]
name = "pytest"
version = "8"
files = [{{file = "pytest.whl", hash = "{SHA}"}}]
"""
POETRY_PROJECT = """
[tool.poetry]
name = "orders"
[tool.poetry.dependencies]
python = "^3.9"
a = {version = "^1.2", extras = ["more"]}
own = "*"
code = {git = "https://code.example/code"}
[tool.poetry.group.dev.dependencies]
pytest = "*"
"""


def test_a_poetry_lock(tmp_path) -> None:
    files: dict[str, str | bytes] = {"poetry.lock": POETRY_LOCK, "pyproject.toml": POETRY_PROJECT}
    plan = planned(tmp_path, files)
    assert plan.source == "poetry.lock"
    assert steps(plan) == {
        " hashed": ["a", "deep", "opt"],
        "": ["code"],
        "--extra-index-url https://own.example/simple hashed": ["own"],
    }
    assert "pytest" in steps(planned(tmp_path, files, groups=["dev"]))[" hashed"]
    modern = PACKAGE.format("orders", '["a>=1", "own"]')
    assert steps(planned(tmp_path, {"pyproject.toml": modern}))[" hashed"] == ["a", "deep"]


PDM_LOCK = f"""
[metadata]
groups = ["default", "web", "dev"]
[[package]]
name = "a"
version = "1"
groups = ["default"]
files = [{{file = "a.whl", hash = "{SHA}"}}]
[[package]]
name = "win"
version = "1"
groups = ["default"]
marker = "sys_platform == 'win32'"
files = []
[[package]]
name = "flask"
version = "3"
groups = ["web"]
files = [{{file = "f.whl", hash = "{SHA}"}}]
[[package]]
name = "code"
version = "1"
groups = ["default"]
git = "https://code.example/code"
revision = "c0ffee"
"""


def test_a_pdm_lock(tmp_path) -> None:
    files: dict[str, str | bytes] = {"pdm.lock": PDM_LOCK}
    assert steps(planned(tmp_path, files)) == {" hashed": ["a"], "": ["code"]}
    assert steps(planned(tmp_path, files, extras=["web"]))[" hashed"] == ["a", "flask"]
    assert "default, dev, web" in refused(tmp_path, files, groups=["docs"])["project.groups docs"]


def test_a_pipfile_lock(tmp_path) -> None:
    lock = {
        "_meta": {
            "sources": [
                {"name": "pypi", "url": "https://pypi\x2eorg/simple"},
                {"name": "own", "url": "https://own.example/simple"},
            ]
        },
        "default": {
            "a": {"version": "==1", "hashes": [SHA]},
            "own": {"version": "==2", "hashes": [SHA], "index": "own"},
            "win": {"version": "==3", "markers": "sys_platform == 'win32'"},
            "code": {"git": "https://code.example/code", "ref": "c0ffee"},
            "lib": {"path": "./libs/lib", "editable": True},
        },
        "develop": {"pytest": {"version": "==8", "hashes": [SHA]}},
    }
    files = {"Pipfile.lock": json.dumps(lock), **LIBRARY}
    plan = planned(tmp_path, files)
    assert steps(plan) == {
        " hashed": ["a"],
        "": ["code"],
        "--extra-index-url https://own.example/simple hashed": ["own"],
    }
    assert [library.where for library in plan.libraries] == ["libs/lib"]
    assert steps(planned(tmp_path, files, groups=["dev"]))[" hashed"] == ["a", "pytest"]


PYLOCK = f"""
lock-version = "1.0"
extras = ["web"]
dependency-groups = ["dev"]
created-by = "by hand"
[[packages]]
name = "a"
version = "1"
wheels = [{{name = "a.whl", url = "https://f.example/a.whl", hashes = {{sha256 = "{"ab" * 32}"}}}}]
[[packages]]
name = "own"
version = "2"
index = "https://own.example/simple"
sdist = {{name = "own.tar.gz", url = "https://f.example/o.tar.gz", hashes = {{sha256 = "{"ab" * 32}"}}}}
[[packages]]
name = "flask"
version = "3"
marker = "'web' in extras"
wheels = [{{name = "f.whl", url = "https://f.example/f.whl", hashes = {{sha256 = "{"ab" * 32}"}}}}]
[[packages]]
name = "pytest"
version = "8"
marker = "'dev' in dependency_groups"
wheels = [{{name = "p.whl", url = "https://f.example/p.whl", hashes = {{sha256 = "{"ab" * 32}"}}}}]
[[packages]]
name = "code"
vcs = {{type = "git", url = "https://code.example/code", commit-id = "c0ffee"}}
[[packages]]
name = "direct"
archive = {{url = "https://f.example/direct.tar.gz", hashes = {{sha256 = "{"ab" * 32}"}}}}
"""


def test_a_pylock(tmp_path) -> None:
    files: dict[str, str | bytes] = {"pylock.toml": PYLOCK}
    assert steps(planned(tmp_path, files)) == {
        " hashed": ["a", "direct"],
        "": ["code"],
        "--extra-index-url https://own.example/simple hashed": ["own"],
    }
    assert steps(planned(tmp_path, files, extras=["web"]))[" hashed"] == ["a", "direct", "flask"]
    assert steps(planned(tmp_path, files, groups=["dev"]))[" hashed"] == ["a", "direct", "pytest"]
    assert "lock-version" in refused(tmp_path, {"pylock.toml": 'lock-version = "2.0"\n'})["pylock.toml"]


def test_a_folder_of_archives_as_a_locks_index(tmp_path) -> None:
    lock = (
        "version = 1\n"
        + package("orders", 'virtual = "."', 'dependencies = [{ name = "mine" }, { name = "one" }]', sha="")
        + package("mine", 'registry = "vendor"')
        + package("one", 'path = "vendor/one-1.0-py3-none-any.whl"')
    )
    plan = planned(tmp_path, {"uv.lock": lock, "vendor/one-1.0-py3-none-any.whl": b"w"})
    assert "--find-links ./links/0" in str(plan.files)
    assert plan.files["wheels/one-1.0-py3-none-any.whl"] == b"w"


# ---- libraries beside the service, and where imports are looked for


def test_an_included_library_with_a_pyproject_is_installed_with_what_it_needs(tmp_path) -> None:
    files: dict[str, str | bytes] = {
        ".samovar-include/1/libs/common/pyproject.toml": PACKAGE.format("common", '["six"]'),
        ".samovar-include/1/libs/common/src/common/__init__.py": "",
    }
    plan = planned(tmp_path, files, include=["../libs/common"])
    assert [library.where for library in plan.libraries] == ["../libs/common"]
    assert lines(plan) == ["six"]
    assert plan.paths == []


def test_an_included_library_without_one_is_imported_from_where_it_lies(tmp_path) -> None:
    files: dict[str, str | bytes] = {
        ".samovar-include/1/libs/a/a/__init__.py": "",
        ".samovar-include/1/libs/a/requirements.txt": "six\n",
        ".samovar-include/1/libs/b/src/b.py": "",
        "libs/c/c.py": "",
    }
    plan = planned(tmp_path, files, include=["../libs/a", "../libs/b/", "./libs/c"])
    assert plan.libraries == []
    assert plan.paths == [".samovar-include/1/libs/a", ".samovar-include/1/libs/b/src", "libs/c"]
    assert lines(plan) == ["six"]
    assert plan.place_of("six") == "../libs/a/requirements.txt:1"
    site = site_files(plan, "3.11.2")
    assert site["lib/python3.11/site-packages/samovar-project.pth"] == (
        b"/app/.samovar-include/1/libs/a\n/app/.samovar-include/1/libs/b/src\n/app/libs/c\n"
    )


def test_libraries_that_name_each_other_find_each_other(tmp_path) -> None:
    uses = PACKAGE.format("b", '["a"]') + '[tool.uv.sources]\na = {path = "../a"}\n'
    files: dict[str, str | bytes] = {
        ".samovar-include/1/libs/a/pyproject.toml": PACKAGE.format("a", '["six"]'),
        ".samovar-include/1/libs/b/pyproject.toml": uses,
        "requirements.txt": "-e ../libs/b\n",
    }
    plan = planned(tmp_path, files, include=["../libs"])
    assert {library.where for library in plan.libraries} == {"../libs/a", "../libs/b"}
    assert lines(plan) == ["six"]


def test_an_include_that_is_not_in_the_archive_is_named(tmp_path) -> None:
    assert "'../libs/x'" in refused(tmp_path, {}, include=["../libs/x"])["project.include[0]"]


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        ({"src/orders/__init__.py": ""}, ["src"]),
        ({"src/orders.py": ""}, ["src"]),
        ({"src/__init__.py": "", "src/orders.py": ""}, []),
        ({"src/main.c": ""}, []),
        ({"lib/orders.py": "", "pyproject.toml": "[tool.setuptools.packages.find]\nwhere = ['lib']\n"}, ["lib"]),
        ({"lib/o.py": "", "pyproject.toml": "[tool.setuptools]\npackage-dir = {'' = 'lib'}\n"}, ["lib"]),
        ({"py/o.py": "", "pyproject.toml": "[[tool.poetry.packages]]\ninclude='o'\nfrom='py'\n"}, ["py"]),
        ({"py/o/a.py": "", "pyproject.toml": "[tool.hatch.build.targets.wheel]\npackages=['py/o']\n"}, ["py"]),
        ({"orders/__init__.py": ""}, []),
    ],
)
def test_where_a_projects_modules_begin(tmp_path, files: dict[str, str | bytes], paths: list[str]) -> None:
    assert planned(tmp_path, files).paths == paths


def test_a_projects_metadata_is_known_where_it_is_deployed(tmp_path) -> None:
    site = site_files(planned(tmp_path, {"pyproject.toml": PACKAGE.format("My.Orders", "[]")}), "3.11.2")
    folder = "lib/python3.11/site-packages/my_orders-1.dist-info"
    assert site[f"{folder}/METADATA"] == b"Metadata-Version: 2.1\nName: my-orders\nVersion: 1\n"


# ---- what the base image and apt bring


def test_debians_python_packages_are_seen_by_debians_python_alone(tmp_path) -> None:
    debian = Target(HERE.environment, True, debian=True, apt=("python3-numpy=1:1.24", "libpq5"))
    assert planned(tmp_path, {}, target=debian).system
    other = Target(HERE.environment, True, debian=False, apt=("python3-numpy", "python3-dev"))
    said = refused(tmp_path, {}, target=other)["project.apt"]
    assert "python3-numpy" in said
    assert "requirements" in said
    assert "python3-dev" not in said


def test_what_a_named_base_brings_is_seen(tmp_path) -> None:
    assert planned(tmp_path, {}, target=Target(HERE.environment, True, brings=("torch",))).system
    assert not planned(tmp_path, {}, target=Target(HERE.environment, True)).system


# ---- what a key depends on


def test_code_changes_no_key(tmp_path) -> None:
    files: dict[str, str | bytes] = {
        "pyproject.toml": DYNAMIC.format("hatchling", "hatchling.build", 'dynamic = ["dependencies"]'),
        "orders.py": "a = 1",
    }
    answers = {".": Answer("orders", "1", ["six"])}
    first = planned(tmp_path, files, answers=answers).key(lambda path: [])
    second = planned(tmp_path, {"orders.py": "a = 2"}, answers=answers).key(lambda path: [])
    third = planned(tmp_path, {}, answers={".": Answer("orders", "1", ["six>1"])}).key(lambda path: [])
    assert first == second != third


# ---- what is handed over to hurt


def maze(depth: int, entry: str) -> str:
    return "".join(f"{entry.format(n, n + 1)}\n" for n in range(depth)) + f"g{depth} = []\n"


@pytest.mark.parametrize(
    "files",
    [
        {f"r{n}.txt": f"-r r{n + 1}.txt\n" * 2 for n in range(60)}
        | {"r60.txt": "six\n", "requirements.txt": "-r r0.txt"},
        {
            "pyproject.toml": PACKAGE.format("o", "[]")
            + "[dependency-groups]\n"
            + maze(60, "g{0} = [{{include-group = 'g{1}'}}, {{include-group = 'g{1}'}}]")
            + "[project.optional-dependencies]\n"
            + maze(60, "g{0} = ['o[g{1}]', 'o[g{1}]']")
        },
    ],
    ids=["files", "groups and extras"],
)
def test_what_names_the_next_twice_is_read_once(tmp_path, files: dict[str, str | bytes]) -> None:
    names = {} if "requirements.txt" in files else {"extras": ["g0"], "groups": ["g0"]}
    assert lines(planned(tmp_path, files, **names)) in ([], ["six"])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"requirements.txt": "a" * (9 * 1024 * 1024)}, "larger than the 8 MiB"),
        ({"requirements.txt": "six\n" * 110_000}, "too intricate"),
        ({"Pipfile.lock": "[" * 100_000}, "not valid JSON"),
    ],
    ids=["size", "number", "json"],
)
def test_what_would_take_the_hosts_time_is_refused(tmp_path, files: dict[str, str | bytes], words: str) -> None:
    assert words in caught_message(tmp_path, files)


def test_an_answer_is_as_long_as_somebody_reads(tmp_path) -> None:
    deep = f"six ; {'(' * 5000}python_version > '3'{')' * 5000}\n"
    said = refused(tmp_path, {"requirements.txt": deep + "no such\n" * 1000})
    assert len(said) == 51
    assert said["…"] == "and 951 more"
    assert len(said["requirements.txt:1"]) < 1100


@pytest.mark.parametrize("version", ["1/../../../../../sdk/x", "..", "1\\n/x", ""])
def test_a_version_that_is_a_path_is_no_directory_of_the_image(tmp_path, version: str) -> None:
    text = f'[project]\nname = "orders"\nversion = "{version}"\n'
    assert planned(tmp_path, {"pyproject.toml": text}).project == ("orders", "0+unknown")
    assert planned(tmp_path, {"pyproject.toml": '[project]\nname = "../x"\nversion = "1"\n'}).project is None


def test_a_link_out_of_an_included_library_is_not_followed(tmp_path) -> None:
    root = tmp_path / "source"
    (tmp_path / "secret").mkdir()
    (root / ".samovar-include/1").mkdir(parents=True)
    (root / ".samovar-include/1/common").symlink_to(tmp_path / "secret")
    assert "project.include[0]" in refused(root, {}, include=["../common"])
