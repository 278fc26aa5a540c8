"""Real builds with the real engine: layers, limits, what is left in an image and what is not."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from images import base, deployment, privileges
from images.allowed import reference
from images.box import Box
from images.build import Built, build, clean, remove
from images.docker_builder import Builder
from images.errors import BuildError
from images.host import host_network
from images.settings import ImageSettings
from runner import seccomp
from tests.doors import host

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("base_image")]

TASK = "from samovar import task\n\n@task\ndef hello(name: str) -> str:\n    return name\n"
SETTINGS = ImageSettings(
    labels={"samovar.test": "1"},
    offline=True,
    seccomp=seccomp.profile(),
    bases=("python", "samovar/base:bookworm", "samovar-test/*"),
)


class Project:
    """A project to build, its log, and the engine to look at what came of it."""

    def __init__(self, directory: Path) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.directory = directory
        self.state = directory / "state"
        self.log: list[str] = []
        #: What the operator's policy lets builds reach, beside this host's own index.
        self.hosts: list[str] = []
        self.engine = docker.from_env(version="auto")

    def build(self, files: dict[str, str | bytes], settings: ImageSettings = SETTINGS, extra: str = "") -> Built:
        config = f'[project]\nname = "{self.name}"\ntasks = ["tasks"]\n{extra}'
        archive = self.directory / f"{uuid.uuid4().hex}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name, data in {"samovar.toml": config, "tasks.py": TASK, **files}.items():
                entry = tarfile.TarInfo(name)
                content = data.encode() if isinstance(data, str) else data
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        self.log.clear()
        return build(
            archive,
            project=self.name,
            version="20260101.1",
            state=self.state,
            log=self.log.append,
            settings=settings,
            way=host().way(self.log.append, self.hosts),
        )

    def fails(
        self, files: dict[str, str | bytes], settings: ImageSettings = SETTINGS, extra: str = ""
    ) -> BuildError:
        before = self.images()
        with pytest.raises(BuildError) as caught:
            self.build(files, settings, extra)
        assert self.containers() == []
        assert {name for name in self.images() - before if ":deployment-" in name} == set()
        return caught.value

    def close(self) -> None:
        """Takes its images away."""
        for image in self.images():
            self.engine.images.remove(image)
        dangling = self.engine.images.list(filters={"dangling": True, "label": f"samovar.project={self.name}"})
        self.engine.close()
        assert dangling == []

    def images(self) -> set[str]:
        return {tag for image in self.engine.images.list(f"samovar/{self.name}") for tag in image.tags}

    def containers(self) -> list[str]:
        found = self.engine.containers.list(all=True, filters={"label": f"samovar.project={self.name}"})
        return [container.name for container in found]

    def run(self, image: str, *command: str) -> str:
        lines: list[str] = []
        box = Box(
            image, list(command), {"samovar": "1", "samovar.test": "1"}, 256 * 1024**2, 64, 60, read_only=True
        )
        with Builder() as builder, builder.container(box) as container:
            container.run(stdout=lines.append, stderr=lines.append)
        return "\n".join(lines)

    def names(self, image: str) -> set[str]:
        """Every path in an image outside of /proc, /sys and /dev, also where nobody but root may look."""
        created = self.engine.containers.create(
            image, ["/", "-xdev"], entrypoint="/usr/bin/find", user="0:0", network_mode="none",
            labels={"samovar": "1", "samovar.test": "1"},
        )  # fmt: skip
        try:
            created.start()
            assert created.wait(timeout=120)["StatusCode"] == 0
            return {path.lstrip("/") for path in created.logs(stderr=False).decode().splitlines()} - {""}
        finally:
            created.remove(force=True)


@pytest.fixture
def project(tmp_path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.close()


def test_a_project_without_dependencies_becomes_an_image_and_an_index(project: Project) -> None:
    built = project.build({"pkg/__init__.py": "", "pkg/broken.py": "def ("})
    assert [task["id"] for task in built.index["tasks"]] == ["hello"]
    assert built.index["tasks"][0]["schema"]["required"] == ["name"]
    image = project.engine.images.get(built.image)
    config = image.attrs["Config"]
    assert config["User"] == "65532:65532"
    assert config["WorkingDir"] == "/app"
    assert config["Entrypoint"][0] == "/opt/samovar/env/bin/python"
    assert image.labels["samovar"] == "1"
    assert image.labels["samovar.project"] == project.name
    assert image.labels["samovar.kind"] == "deployment"
    manifest = json.loads(project.run(built.image, "/bin/cat", "/opt/samovar/manifest.json"))
    assert manifest == {"project": project.name, "modules": ["tasks"], "defaults": {}, "env": {}}
    paths = project.names(built.image)
    assert "app/__pycache__/tasks.cpython-311.pyc" in paths
    assert any(p.startswith("opt/samovar/sdk/samovar/__pycache__/wire.") for p in paths)
    assert not any(p.startswith("opt/samovar/sdk/samovar/cli/") for p in paths)
    assert project.containers() == []


def test_the_same_source_is_the_same_image_and_other_code_shares_the_dependencies(project: Project) -> None:
    first = project.build({})
    assert project.build({}).image == first.image
    second = project.build({"tasks.py": TASK.replace("hello", "goodbye")})
    assert second.image != first.image
    assert [task["id"] for task in second.index["tasks"]] == ["goodbye"]
    # the SDK was compiled for the first alone, and is in both as it was
    paths = project.names(second.image)
    assert paths == project.names(first.image)
    assert any(path.startswith("opt/samovar/sdk/samovar/__pycache__/wire.") for path in paths)
    assert any("dependencies are as before" in line for line in project.log)
    assert len([name for name in project.images() if ":dependencies-" in name]) == 1


def test_requirements_are_there_and_nothing_of_the_build_is(project: Project) -> None:
    plain = project.build({})
    built = project.build({"requirements.txt": "six==1.16.0\nsamovar\n", "tasks.py": "import six\n" + TASK})
    assert any(line.startswith("leaving out requirements.txt:2: samovar") for line in project.log)
    version = project.run(built.image, "/opt/samovar/env/bin/python", "-c", "import six; print(six.__version__)")
    assert version == "1.16.0"
    new = project.names(built.image) - project.names(plain.image)
    assert {path for path in new if not path.startswith(("opt/samovar/env/", "app/"))} == set()
    config = json.dumps(project.engine.api.inspect_image(built.image)) + json.dumps(
        project.engine.api.history(built.image)
    )
    assert "PIP_" not in config
    assert "ca.pem" not in config
    for name, value in host_network().environment.items():
        # a short value such as a number of seconds is in some digest by chance; its name would be in front of it
        assert f"{name}={value}" not in config
        assert len(value) < 8 or value not in config


def test_an_environment_belongs_to_root_and_no_task_may_write_it(project: Project) -> None:
    built = project.build({"requirements.txt": "six==1.16.0\n"})
    listing = project.run(
        built.image, "/usr/bin/find", "/opt/samovar", "/app", "(", "!", "-user", "root", "-o", "-perm", "/022", ")",
        "!", "-type", "l",
    )  # fmt: skip
    assert listing == ""


@pytest.mark.parametrize(
    ("installer", "words"), [("uv", "was not found in the package registry"), ("pip", "Could not find a version")]
)
def test_a_requirement_that_does_not_exist_is_named_with_its_line(
    project: Project, installer: str, words: str
) -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "# ours\nsix\nno-such-package-of-samovar==9\n"}
    error = project.fails(files, extra=f'installer = "{installer}"\n')
    assert error.problem.code == "requirement_not_found"
    assert "no-such-package-of-samovar==9" in error.problem.message
    assert words in error.problem.message
    assert [field.path for field in error.problem.fields] == ["requirements.txt:3"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tasks.py": "from samovar import task\n\ndef oops(:\n"}, "tasks.py"),
        ({"tasks.py": "import not_there_at_all\n"}, "not_there_at_all"),
        ({"tasks.py": "1 / 0\n"}, "ZeroDivisionError"),
        ({"tasks.py": TASK + TASK}, "hello"),
        ({"tasks.py": TASK.replace("@task", "@task(memory='2m')")}, "2m"),
        ({"tasks.py": "import os\nos._exit(7)\n"}, "7"),
    ],
    ids=["syntax", "module", "import", "twice", "range", "exit"],
)
def test_what_is_wrong_with_the_modules_is_passed_on(project: Project, files: dict[str, str], words: str) -> None:
    assert words in str(project.fails(files))


def test_a_module_that_hangs_is_ended_and_the_limit_named(project: Project) -> None:
    settings = SETTINGS.model_copy(update={"index_timeout": 2.0})
    error = project.fails({"tasks.py": "while True: pass\n"}, settings)
    assert error.problem.code == "index_timeout"
    assert "2 s" in error.problem.message


def test_a_module_that_takes_too_much_memory_is_said_so(project: Project) -> None:
    settings = SETTINGS.model_copy(update={"index_memory": 64 * 1024**2})
    error = project.fails({"tasks.py": "held = bytearray(10**9)\n"}, settings)
    assert error.problem.code == "index_out_of_memory"
    assert "64 MiB" in error.problem.message


def sdist(setup: str) -> bytes:
    """A source package whose setup.py is `setup`: somebody else's code, run by a build."""
    return _archive({"setup.py": setup, "PKG-INFO": "Metadata-Version: 1.0\nName: hostile\nVersion: 1\n"})


def sdist_of_backend(program: str) -> bytes:
    """The same with a build backend of its own, which is `program`: nothing has to be fetched to run it."""
    pyproject = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    return _archive({"pyproject.toml": pyproject, "backend.py": program})


def _archive(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"hostile-1/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()


HOSTILE = """
import os, socket
def can(what, *args):
    try:
        what(*args)
        return True
    except Exception:
        return False
assert os.getuid() == 65532
assert not can(open, "/etc/written-by-setup", "w")
assert not can(open, "/opt/samovar/manifest.json", "w")
assert not can(os.setuid, 0)
assert not os.path.exists("/var/run/docker.sock")
assert not any(name.startswith(("SAMOVAR", "AWS")) for name in os.environ)
status = open("/proc/self/status").read()
assert "CapEff:\\t0000000000000000" in status and "NoNewPrivs:\\t1" in status
open("/opt/samovar/work/scratch", "w").write("left behind")
open("/tmp/left", "w").write("left behind")
from setuptools import setup
setup(name="hostile", version="1", py_modules=[])
"""


def test_a_packages_setup_runs_without_rights_and_leaves_nothing(project: Project) -> None:
    plain = project.build({})
    built = project.build({"requirements.txt": "./hostile-1.tar.gz\n", "hostile-1.tar.gz": sdist(HOSTILE)})
    new = project.names(built.image) - project.names(plain.image)
    assert {path for path in new if not path.startswith(("opt/samovar/env/", "app/"))} == set()
    assert [path.name for path in (project.state / "cache" / project.name).iterdir() if "build" in path.name] == []


def test_what_never_changes_is_found_out_once_also_after_the_next_start(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_anew() -> None:
        for where in (base._usable, privileges._found, deployment._compiled_sdk):
            where.clear()

    begin_anew()
    project.build({})
    begin_anew()
    asked: list[list[str]] = []
    real = Builder.container
    monkeypatch.setattr(Builder, "container", lambda self, box: asked.append(box.command) or real(self, box))
    again = Project(project.directory)
    try:
        built = again.build({"tasks.py": "# other code\n" + TASK})
        # what compiles the code, and what reads the tasks: the environment without dependencies is known as well
        assert len(asked) == 2, asked
        sdk = {name for name in again.names(built.image) if name.startswith("opt/samovar/sdk/samovar/harness/")}
        assert {"opt/samovar/sdk/samovar/harness/bundle", "opt/samovar/sdk/samovar/harness/boot.py"} <= sdk
        assert any(name.endswith(".pyc") for name in sdk)
        found = again.run(built.image, "/bin/sh", "-c", "ls -l /usr/bin/su; find /usr /etc -perm /6000 -type f")
        assert found.startswith("-rwxr-xr-x"), found
        assert len(found.splitlines()) <= 1 + found.count("Permission denied"), found
    finally:
        again.close()


def test_a_runner_that_is_not_root_builds_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.chown", lambda *arguments: given.append(arguments))
    # it cannot take away what belongs to the builders' user
    monkeypatch.setattr("images.uv_installer.remove_tree", lambda path: None)
    project.build({"requirements.txt": "six==1.16.0\n", "tasks.py": "import six\n" + TASK})
    assert given == []
    assert not (project.state / "cache" / project.name / "fetched/env").exists()
    assert [path.name for path in (project.state / "cache" / project.name).iterdir() if "build" in path.name] == []


def test_a_setup_that_takes_too_much_memory_is_said_so(project: Project) -> None:
    settings = SETTINGS.model_copy(update={"build_memory": 192 * 1024**2})
    hog = sdist_of_backend("held = [bytearray(10**8) for _ in range(50)]\n")
    error = project.fails({"requirements.txt": "./hostile-1.tar.gz\n", "hostile-1.tar.gz": hog}, settings)
    assert error.problem.code == "build_out_of_memory"
    assert "192 MiB" in error.problem.message


def test_a_setup_that_never_ends_is_ended(project: Project) -> None:
    settings = SETTINGS.model_copy(update={"build_timeout": 8.0})
    hang = sdist_of_backend("while True: pass\n")
    error = project.fails({"requirements.txt": "./hostile-1.tar.gz\n", "hostile-1.tar.gz": hang}, settings)
    assert error.problem.code == "build_timeout"
    assert "8 s" in error.problem.message


def test_debian_packages_are_a_layer_of_their_own(project: Project) -> None:
    built = project.build({}, extra='apt = ["tree"]\n')
    assert "tree" in project.run(built.image, "/usr/bin/tree", "--version")
    assert not any(path.startswith("var/lib/apt/lists/") for path in project.names(built.image))
    image = project.engine.images.get(built.image)
    assert image.labels.get("samovar.state") is None
    assert len([name for name in project.images() if ":apt-" in name]) == 1
    error = project.fails({}, extra='apt = ["no-such-package-of-samovar"]\n')
    assert error.problem.code == "package_not_found"
    assert [field.path for field in error.problem.fields] == ["project.apt"]


def test_engines_that_load_no_partial_archives_commit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Builder, "_load", lambda *arguments: False)
    built = project.build({})
    assert [task["id"] for task in built.index["tasks"]] == ["hello"]
    config = project.engine.images.get(built.image).attrs["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"][-1].endswith("boot.py")


def test_two_builds_at_once_give_the_same(project: Project) -> None:
    results: list[str] = []
    files: list[dict[str, str | bytes]] = [{}, {}]
    threads = [threading.Thread(target=lambda f=f: results.append(project.build(f).image)) for f in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 2
    assert len(set(results)) == 1


def test_another_python_than_there_is_says_what_to_do(project: Project) -> None:
    error = project.fails({}, extra='python = "3.13"\n')
    assert error.problem.code == "base_image"
    assert "3.13" in error.problem.message
    assert 'python = "3.11"' in error.problem.message
    assert error.problem.fields[0].path == "project.python"


def test_a_base_that_is_not_there_is_named(project: Project) -> None:
    error = project.fails({}, extra='base = "samovar-test/none:1"\n')
    assert "samovar-test/none:1" in error.problem.message
    assert error.problem.fields[0].path == "project.base"


@pytest.fixture
def bare(tmp_path) -> Iterator[Callable[[], str]]:
    """An image with nothing in it, as somebody might name for a base."""
    name = f"samovar-test/bare:{uuid.uuid4().hex[:8]}"
    with Builder() as builder:
        archive = tmp_path / "bare.tar"
        with tarfile.open(archive, "w") as tar:
            tar.addfile(tarfile.TarInfo("empty"))
        builder.import_tar(archive, name, changes=["LABEL samovar=1", "LABEL samovar.test=1"])
        yield lambda: name
        builder.remove_image(name)


def test_a_base_without_python_is_said_so(project: Project, bare: Callable[[], str]) -> None:
    error = project.fails({}, extra=f'base = "{bare()}"\n')
    assert error.problem.code == "base_image"
    assert "no python3" in error.problem.message


def test_removing_an_image_says_whether_there_was_one(project: Project) -> None:
    built = project.build({})
    assert remove(built.image)
    assert not remove(built.image)


def test_containers_of_a_build_that_died_are_found(project: Project) -> None:
    built = project.build({})
    # as a build does it, but ended before it could clean up after itself
    labels = {"samovar": "1", "samovar.test": "1", "samovar.kind": "index", "samovar.project": project.name}
    with Builder() as builder:
        from images.build import _owner

        identifier = builder._create(
            Box(built.image, ["/bin/sleep", "60"], {**labels, **_owner(project.state)}, 64 * 1024**2, 16, 60)
        )
    assert len(project.containers()) == 1
    assert clean(project.directory / "other") == 0
    assert clean(project.state) == 1
    assert project.containers() == []
    assert identifier


def test_a_registry_that_does_not_answer_is_told_from_one_that_has_no_such_image() -> None:
    with Builder() as builder:
        asked = reference("127.0.0.1:9/samovar-test/none:1")
        assert builder.pull(asked, timeout=20, most=1024**3, within=60, log=lambda line: None) is None
