"""Dependencies as projects have them, installed for real; and that a change of code installs nothing again."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from samovar.cli.pack import pack

from images import docker_builder
from images.archive import ImageConfig
from images.box import Box
from images.build import Built, build
from images.docker_builder import Builder
from images.removal import remove_version
from tests.docker.test_images import SETTINGS, TASK, Project, project
from tests.doors import host

__all__ = ["project"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("base_image")]

PYTHON = "/opt/samovar/env/bin/python"
SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n'


def version(project: Project, built: Built, *names: str) -> list[str]:
    """The installed version of each of `names`, "none" where it is not there."""
    program = (
        "import sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(version(name))\n"
        "    except PackageNotFoundError: print('none')\n"
    )
    return project.run(built.image, PYTHON, "-c", program, *names).split()


def layers(project: Project, kind: str) -> list[str]:
    return [name for name in project.images() if f":{kind}-" in name]


def test_a_requirements_file_of_powershell_is_installed(project: Project) -> None:
    text = "six==1.16.0\r\nidna==3.7 ; python_version > '3'\r\ncolorama==0.4.6 ; sys_platform == 'win32'\r\n"
    built = project.build({"requirements.txt": text.encode("utf-16"), "tasks.py": "import six, idna\n" + TASK})
    assert version(project, built, "six", "idna", "colorama") == ["1.16.0", "3.7", "none"]


def test_extras_and_groups_are_installed(project: Project) -> None:
    pyproject = (
        '[project]\nname = "orders"\nversion = "2.5"\ndependencies = []\n'
        '[project.optional-dependencies]\nnames = ["idna==3.7"]\n'
        '[dependency-groups]\nold = ["six==1.16.0"]\nother = ["tomli"]\n'
    )
    files: dict[str, str | bytes] = {
        "pyproject.toml": pyproject,
        "src/orders/__init__.py": "",
        "src/orders/jobs.py": "import idna, six\n" + TASK,
        "tasks.py": "from importlib.metadata import version\nassert version('orders') == '2.5'\n"
        "from orders.jobs import hello\n",
    }
    built = project.build(files, extra='extras = ["names"]\ngroups = ["old"]\n')
    assert [task["id"] for task in built.index["tasks"]] == ["hello"]
    assert version(project, built, "idna", "six", "tomli", "orders") == ["3.7", "1.16.0", "none", "2.5"]


def test_what_a_build_backend_alone_knows_is_installed_and_other_code_keeps_the_layer(project: Project) -> None:
    pyproject = SETUPTOOLS + '[project]\nname = "orders"\ndynamic = ["version", "dependencies"]\n'
    setup = (
        "import orders\nfrom setuptools import setup\n"
        "setup(version=orders.VERSION, install_requires=['six==1.16.0'])\n"
    )
    files: dict[str, str | bytes] = {
        "pyproject.toml": pyproject,
        "setup.py": "import sys\nsys.path.insert(0, '.')\n" + setup,
        "orders.py": "VERSION = '4.2'\n",
        "tasks.py": "import six\n" + TASK,
    }
    built = project.build(files)
    assert any("asking the build backend of . what it needs" in line for line in project.log)
    # it was not begun without what it is built with
    assert "fetching what it is built with" in project.log
    assert not any("error" in line for line in project.log)
    assert version(project, built, "six", "orders") == ["1.16.0", "4.2"]
    again = project.build({**files, "tasks.py": "import six  # again\n" + TASK})
    assert again.image != built.image
    assert any("dependencies are as before" in line for line in project.log)
    assert len(layers(project, "dependencies")) == 1


def test_a_build_backend_that_fails_is_a_refusal_with_a_way_out(project: Project) -> None:
    files: dict[str, str | bytes] = {
        "pyproject.toml": SETUPTOOLS + '[project]\nname = "orders"\nversion = "1"\ndynamic = ["dependencies"]\n',
        "setup.py": "raise SystemExit('no metadata today')\n",
    }
    error = project.fails(files)
    assert error.problem.code == "install_failed"
    assert [field.path for field in error.problem.fields] == ["pyproject.toml"]
    assert 'requirements = "…"' in error.problem.message
    assert "no metadata today" in error.problem.message
    assert layers(project, "dependencies") == []


def test_libraries_beside_the_service_are_installed_or_imported(project: Project, tmp_path) -> None:
    top = tmp_path / "repository"
    texts = {
        "libs/common/pyproject.toml": SETUPTOOLS
        + '[project]\nname = "common"\nversion = "3.1"\ndependencies = ["six==1.16.0"]\n'
        + '[project.scripts]\ncommon-says = "common:main"\n',
        "libs/common/src/common/__init__.py": "import six\nWORD = 'one'\ndef main(): print(WORD)\n",
        "libs/bare/bare/__init__.py": "import idna\nWORD = 'bare'\n",
        "libs/bare/requirements.txt": "idna==3.7\n",
        "services/orders/requirements.txt": "-e ../../libs/common\ntomli==2.0.1\n",
        "services/orders/tasks.py": "import bare, common, tomli\n" + TASK,
        "services/orders/samovar.toml": f'[project]\nname = "{project.name}"\ntasks = ["tasks"]\n'
        'include = ["../../libs/common", "../../libs/bare"]\n',
    }
    for name, text in texts.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)

    def deploy() -> Built:
        archive = tmp_path / "packed.tar.gz"
        archive.write_bytes(pack(top / "services/orders").data)
        project.log.clear()
        return build(
            archive,
            project=project.name,
            version="1",
            state=project.state,
            log=project.log.append,
            settings=SETTINGS,
            way=host().way(project.log.append),
        )

    built = deploy()
    assert [task["id"] for task in built.index["tasks"]] == ["hello"]
    assert version(project, built, "common", "six", "idna", "tomli") == ["3.1", "1.16.0", "3.7", "2.0.1"]
    assert project.run(built.image, "/opt/samovar/env/bin/common-says") == "one"
    assert project.run(built.image, PYTHON, "-c", "import bare; print(bare.WORD, bare.__file__)") == (
        "bare /app/.samovar-include/2/libs/bare/bare/__init__.py"
    )
    # installed, it is not in the code a second time; and what it needs is not fetched again for a change of it
    assert not any(path.startswith("app/.samovar-include/2/libs/common") for path in project.names(built.image))
    (top / "libs/common/src/common/__init__.py").write_text("WORD = 'two'\ndef main(): print(WORD)\n")
    second = deploy()
    assert project.run(second.image, "/opt/samovar/env/bin/common-says") == "two"
    assert len(layers(project, "dependencies")) == 1
    assert len(layers(project, "libraries")) == 2
    # a version that goes takes its own libraries along, and leaves what the other one stands on
    assert remove_version(second.image)
    assert len(layers(project, "libraries")) == len(layers(project, "dependencies")) == 1


def test_a_lock_is_installed_with_its_hashes(project: Project) -> None:
    # as uv writes it, with another index that nothing of it comes from but by its hash
    sha = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    lock = (
        'version = 1\nrequires-python = ">=3.9"\n'
        '[[package]]\nname = "orders"\nversion = "1"\nsource = { virtual = "." }\n'
        'dependencies = [{ name = "six" }, { name = "colorama", marker = "sys_platform == \'win32\'" }]\n'
        '[[package]]\nname = "six"\nversion = "1.16.0"\nsource = { registry = "https://pypi\x2eorg/simple" }\n'
        f'wheels = [{{ url = "https://files.example/six.whl", hash = "sha256:{sha}" }}]\n'
        '[[package]]\nname = "colorama"\nversion = "0.4.6"\nsource = { registry = "https://pypi\x2eorg/simple" }\n'
    )
    locked = 'requirements = "uv.lock"\n'
    built = project.build({"uv.lock": lock, "tasks.py": "import six\n" + TASK}, extra=locked)
    assert version(project, built, "six", "colorama") == ["1.16.0", "none"]
    error = project.fails({"uv.lock": lock.replace(sha, sha[::-1])}, extra=locked)
    assert "hash" in error.problem.message.lower()


def test_a_package_that_is_a_source_alone_is_built_without_a_network_and_installed_by_uv(project: Project) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "docopt==0.6.2\nsix\n",
        "tasks.py": "import docopt\n" + TASK,
    }
    built = project.build(files)
    assert version(project, built, "docopt") == ["0.6.2"]
    assert any("docopt==0.6.2 is published as a source alone" in line for line in project.log)
    assert not any("pip does" in line for line in project.log)
    assert any(line.startswith("took ") and "building wheels" in line for line in project.log)


def test_what_uv_has_fetched_is_kept_for_the_projects_next_build(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if idna were large: then it is a layer that the next version shares
    monkeypatch.setattr("images.layers._LARGE", 100_000)
    sent: list[int] = []
    archive = docker_builder.archive_of

    def counted(**more: Any) -> Any:
        sent.append(len(more["layers"]) - more.get("there", 0))
        return archive(**more)

    monkeypatch.setattr(docker_builder, "archive_of", counted)
    files: dict[str, str | bytes] = {"requirements.txt": "idna==3.7\n", "tasks.py": "import idna\n" + TASK}
    project.build(files)
    assert any("Prepared 1 package" in line for line in project.log)
    first = project.engine.images.get(layers(project, "dependencies")[0]).attrs["RootFS"]["Layers"]
    again = project.build({**files, "requirements.txt": "idna==3.7\nsix==1.16.0\n"})
    second = [project.engine.images.get(name).attrs["RootFS"]["Layers"] for name in layers(project, "dependencies")]
    shared = [one for one in second if one != first]
    assert len(shared) == 1
    assert shared[0][:-1] == first[:-1]
    assert len(first) == len(shared[0]) >= 4
    assert version(project, again, "idna", "six") == ["3.7", "1.16.0"]
    assert any("Prepared 1 package" in line for line in project.log)
    assert any("Installed 2 packages" in line for line in project.log)
    # large packages ahead of all and the rest, then the code; and in the next version the rest alone
    assert sent == [1, 2, 1, 1, 1]
    # byte code of both, and nothing of the environment is left on the host
    paths = project.names(again.image)
    assert {"six.cpython-311.pyc", "core.cpython-311.pyc"} <= {path.rpartition("/")[2] for path in paths}
    assert not (project.state / "cache" / project.name / "fetched/env").exists()


def test_pip_installs_where_a_project_says_so(project: Project) -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "idna==3.7\n", "tasks.py": "import idna\n" + TASK}
    built = project.build(files, extra='installer = "pip"\n')
    assert version(project, built, "idna") == ["3.7"]
    assert any("Successfully installed idna-3.7" in line for line in project.log)


def test_pip_installs_where_uv_cannot(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "--no-binary six\nsix==1.16.0\n"}
    assert version(project, project.build(files), "six") == ["1.16.0"]
    assert any(line.startswith("pip installs: ") for line in project.log)
    monkeypatch.setattr("uv.find_uv_bin", lambda: "/nowhere/uv")
    assert version(project, project.build({"requirements.txt": "idna==3.7\n"}), "idna") == ["3.7"]
    assert any("no uv on this host" in line for line in project.log)


@pytest.fixture
def index(project: Project, tmp_path) -> Iterator[str]:
    """The URL of an index on this host's loopback that has the one package `only-here` 1.0."""
    directory = tmp_path / "index/simple/only-here"
    directory.mkdir(parents=True)
    with zipfile.ZipFile(directory / "only_here-1.0-py3-none-any.whl", "w") as wheel:
        info = "only_here-1.0.dist-info"
        wheel.writestr(zipfile.ZipInfo("only_here.py"), "WORD = 'from its own index'\n")
        metadata = "Metadata-Version: 2.1\nName: only-here\nVersion: 1.0\n"
        wheel.writestr(zipfile.ZipInfo(f"{info}/METADATA"), metadata)
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), tags)
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def test_a_lock_keeps_the_index_of_its_own(project: Project, index: str, tmp_path) -> None:
    wheel = (tmp_path / "index/simple/only-here/only_here-1.0-py3-none-any.whl").read_bytes()
    lock = (
        'version = 1\nrequires-python = ">=3.9"\n'
        '[[package]]\nname = "orders"\nversion = "1"\nsource = { virtual = "." }\n'
        'dependencies = [{ name = "only-here" }]\n'
        f'[[package]]\nname = "only-here"\nversion = "1.0"\nsource = {{ registry = "{index}" }}\n'
        f'wheels = [{{ url = "{index}/x.whl", hash = "sha256:{hashlib.sha256(wheel).hexdigest()}" }}]\n'
    )
    files: dict[str, str | bytes] = {
        "uv.lock": lock,
        "tasks.py": "import only_here\n" + TASK,
        "pyproject.toml": "[project]\n",
    }
    # a project names it; that it is reached is the operator's word
    place = index.partition("://")[2].partition("/")[0]
    error = project.fails(files, extra='requirements = "uv.lock"\n')
    assert error.problem.code == "host_refused"
    assert f'adds "{place}" to hosts in [builds] of policy.toml' in error.problem.message
    project.hosts = [place]
    built = project.build(files, extra='requirements = "uv.lock"\n')
    assert project.run(built.image, PYTHON, "-c", "import only_here as o; print(o.WORD)") == "from its own index"


def test_the_index_of_the_hosts_pip_is_reached_wherever_it_is(
    project: Project, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index)
    files: dict[str, str | bytes] = {"requirements.txt": "only-here\n", "tasks.py": "import only_here\n" + TASK}
    place = index.partition("://")[2].partition("/")[0]
    for installer in ("uv", "pip"):
        built = project.build(files, extra=f'installer = "{installer}"\n')
        assert version(project, built, "only-here") == ["1.0"]
        assert any(line.startswith(f"{place}: ") and " received" in line for line in project.log), project.log


def test_debians_own_python_packages_are_seen(project: Project) -> None:
    built = project.build({"tasks.py": "import yaml\n" + TASK}, extra='apt = ["python3-yaml"]\n')
    assert "/usr/lib/python3/dist-packages" in project.run(
        built.image, PYTHON, "-c", "import yaml; print(yaml.__file__)"
    )


@pytest.fixture
def own_base(project: Project, base_image: str) -> Iterator[str]:
    """A base image that has the package `of-the-base` 7 for its python3."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in {
            "of_the_base.py": "",
            "of_the_base-7.dist-info/METADATA": "Metadata-Version: 2.1\nName: of-the-base\nVersion: 7\n",
        }.items():
            entry = tarfile.TarInfo(f"usr/lib/python3/dist-packages/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    name = f"samovar-test/base:{uuid.uuid4().hex[:8]}"
    labels = {"samovar": "1", "samovar.test": "1"}
    with Builder() as builder:
        with builder.container(Box(base_image, ["/bin/true"], labels, 64 * 1024**2, 16, 1.0)) as container:
            container.put(stream.getvalue())
            container.commit(name, ImageConfig(labels, []))
        yield name
        for image in project.images():
            project.engine.images.remove(image)
        builder.remove_image(name)


def test_what_a_named_base_image_brings_is_seen(project: Project, own_base: str) -> None:
    built = project.build({"tasks.py": "import of_the_base\n" + TASK}, extra=f'base = "{own_base}"\n')
    assert version(project, built, "of-the-base") == ["7"]


def test_what_cannot_be_installed_is_refused_before_anything_is_built(project: Project) -> None:
    error = project.fails({"requirements.txt": "six\ncommon @ file:///home/anna/common\n"})
    assert error.problem.code == "invalid_requirements"
    assert [field.path for field in error.problem.fields] == ["requirements.txt:2"]
    assert project.images() == set()
    assert project.log == []
