"""A hostile build: what a package's setup and a project's import may do, tried in real builders."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from images.box import Box
from images.docker_builder import Builder
from images.errors import BuildError
from images.settings import ImageSettings
from runner import seccomp
from tests.docker.test_images import TASK, Project, sdist
from tests.security.attempts import attempt

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("base_image")]

MIB = 1024**2
SECRET = "s3cret-of-the-index"
SETTINGS = ImageSettings(
    labels={"samovar.test": "1"},
    offline=True,
    seccomp=seccomp.profile(),
    build_disk=192 * MIB,
    build_files=5_000,
    build_output=2 * MIB,
    build_timeout=120.0,
    build_memory=384 * MIB,
    build_pids=128,
    index_timeout=60.0,
)

#: Each gives a line `name answer`. What is tried in a setup.py and at the top of a module alike.
TRIES = """
import ctypes, errno, os, socket, sys

libc = ctypes.CDLL(None, use_errno=True)

def refused(what):
    try:
        answer = what()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "done " + str(answer)

def connect(address):
    def tried():
        with socket.socket() as s:
            s.settimeout(3)
            s.connect(address)
    return tried

def send(address):
    def tried():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", address)
    return tried

def call(number, *arguments):
    def tried():
        if libc.syscall(number, *arguments) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    return tried

def seen():
    texts = [repr(dict(os.environ))]
    for top in ("/tmp", "/opt/samovar/work", os.path.expanduser("~"), "/etc/pip.conf", "/root"):
        for path, _, names in [*os.walk(top), ("", [], [top])]:
            for name in names:
                try:
                    texts.append(open(os.path.join(path, name), errors="replace").read(1_000_000))
                except OSError:
                    pass
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                texts.append(open(f"/proc/{pid}/{name}", errors="replace").read())
            except OSError:
                pass
    return "seen" if "s3cret" "-of-the-index" in "".join(texts) else "nothing"

def name():
    try:
        socket.getaddrinfo("example.com", 80)
    except socket.gaierror:
        return "gaierror"
    return "resolved"

def wrote():
    found = []
    places = ["/opt/samovar/uv", "/opt/samovar/http"]
    places += ["/tmp/samovar/" + name for name in ("cache", "house", "built", "in", "uv", "compiled")]
    for path in places:
        try:
            open(path + "/poison-1-py3-none-any.whl", "w").write("x")
            found.append(path)
        except OSError:
            pass
    return ",".join(found) or "nowhere"

status = open("/proc/self/status").read()
field = lambda key: status.split(key + ":")[1].split()[0]
answers = {
    "uid": str(os.getuid()),
    "capabilities": field("CapBnd"),
    "seccomp": field("Seccomp"),
    "new privileges": field("NoNewPrivs"),
    "public address": refused(connect(("1.1.1.1", 443))),
    "metadata address": refused(connect(("169.254.169.254", 80))),
    "gateway": refused(connect(("172.17.0.1", 22))),
    "private address": refused(connect(("10.0.0.1", 80))),
    "datagram": refused(send(("8.8.8.8", 53))),
    "name": name(),
    "raw socket": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "vsock": refused(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "device": refused(lambda: os.mknod("/opt/samovar/work/d" if os.path.isdir("/opt/samovar/work") else "/tmp/d",
                                       0o060600, os.makedev(8, 0))),
    "mount": refused(lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, None)()),
    "unshare": refused(call(272, 0x10000000)),
    "ptrace": refused(call(101, 0, 0, 0, 0)),
    "keyctl": refused(call(250, 0, 0, 0, 0, 0)),
    "io_uring": refused(call(425, 8, 0)),
    "setuid": refused(lambda: os.setuid(0)),
    "docker socket": str(os.path.exists("/var/run/docker.sock")),
    "credentials": seen(),
    "relay": refused(connect(("127.0.0.1", 3128))),
    "door": str(os.path.exists("/tmp/samovar/way")),
    "poison": wrote(),
}
"""

#: What each answers where the control holds.
EXPECTED = {
    "uid": "65532",
    "capabilities": "0000000000000000",
    "seccomp": "2",
    "new privileges": "1",
    "public address": "ENETUNREACH",
    "metadata address": "ENETUNREACH",
    "gateway": "ENETUNREACH",
    "private address": "ENETUNREACH",
    "datagram": "ENETUNREACH",
    "name": "gaierror",
    "raw socket": "EPERM",
    "vsock": "EPERM",
    "device": "EPERM",
    "mount": "EPERM",
    "unshare": "EPERM",
    "ptrace": "EPERM",
    "keyctl": "EPERM",
    "io_uring": "EPERM",
    "setuid": "EPERM",
    "docker socket": "False",
    "credentials": "nothing",
    "relay": "ECONNREFUSED",
    "door": "False",
    "poison": "nowhere",
}
SETUP = TRIES + (
    "import json\n"
    "from setuptools import setup\n"
    "open('found.py', 'w').write('ANSWERS = ' + repr(answers))\n"
    "setup(name='hostile', version='1', py_modules=['found'])\n"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("hostile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def answers(project: Project) -> dict[str, dict[str, str]]:
    """What a setup.py, and a module that is imported for the index, were answered: one build for all of it."""
    patch = pytest.MonkeyPatch()
    # as an operator has it who reaches an index with a password
    patch.setenv("PIP_EXTRA_INDEX_URL", f"http://user:{SECRET}@127.0.0.1:9/simple")
    patch.setenv("PIP_RETRIES", "0")
    module = "import found\n" + TRIES + "import json\n" + TASK
    module += "\nhello.__doc__ = None\nprint('ANSWERS ' + json.dumps([found.ANSWERS, answers]), file=sys.stderr)\n"
    try:
        files: dict[str, str | bytes] = {
            "requirements.txt": "./hostile-1.tar.gz\n",
            "hostile-1.tar.gz": sdist(SETUP),
            "tasks.py": module,
        }
        project.build(files, SETTINGS)
    finally:
        patch.undo()
    line = next(line for line in project.log if "ANSWERS [" in line)
    setup, index = json.loads(line.partition("ANSWERS ")[2])
    return {"setup.py": setup, "import for the index": index}


@pytest.mark.parametrize("where", ["setup.py", "import for the index"])
@pytest.mark.parametrize(
    "what",
    [
        pytest.param(
            what, marks=attempt("build", f"{what}, from setup.py and import", "a builder is a container", answer)
        )
        for what, answer in EXPECTED.items()
    ],
)
def test_a_builder_is_a_container_like_any_other(answers: dict[str, Any], where: str, what: str) -> None:
    assert answers[where][what] == EXPECTED[what]


FILL = "import os\nos.chdir('/opt/samovar/work')\n"
#: Past pip, which gathers what a backend prints.
OUT = "import os\nout = os.open('/proc/1/fd/2', os.O_WRONLY)\n"
ENDLESS = {
    "a file without end": (
        "build_disk",
        FILL + "f = open('big', 'wb')\nwhile True: f.write(os.urandom(1 << 20))\n",
    ),
    "files without end": (
        "build_disk",
        FILL + "n = 0\nwhile True:\n    open(f'f{n}', 'w').close()\n    n += 1\n",
    ),
    "directories without end": (
        "build_disk",
        FILL + "while True:\n    os.mkdir('d')\n    os.chdir('d')\n",
    ),
    "output without end": ("build_output", OUT + "while True: os.write(out, b'x' * 4096)\n"),
    "output that pip gathers": ("build_out_of_memory", "while True: print('x' * 10**6)\n"),
    "empty lines without end": (
        "build_output",
        OUT + "while True: os.write(out, b'\\n' * 4096)\n",
    ),
    "processes without end": (
        "install_failed",
        # without what pip waits for the end of; the last that cannot be made is an error
        "import os, time\nwhile True:\n    if not os.fork():\n        os.closerange(0, 256)\n"
        "        time.sleep(600)\n",
    ),
}


def direct(project: Project, program: str, settings: ImageSettings) -> BuildError:
    """How a build ends in which a library's own build backend, that needs no package, is `program`."""
    files: dict[str, str | bytes] = {
        "pyproject.toml": '[project]\nname = "hostile"\ndynamic = ["version", "dependencies"]\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": program,
    }
    with pytest.raises(BuildError) as caught:
        project.build(files, settings)
    assert project.containers() == []
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=attempt("build", f"{name} of a build backend", "limits of builders", code))
        for name, (code, _) in ENDLESS.items()
    ],
)
def test_what_never_ends_is_ended(project: Project, name: str) -> None:
    code, program = ENDLESS[name]
    error = direct(project, program, SETTINGS)
    assert error.problem.code == code, error.problem.message
    assert len(error.problem.message) < 20_000


@attempt("build", "a backend that hangs", "a deadline of the whole build", "build_timeout")
def test_a_backend_that_hangs_is_ended(project: Project) -> None:
    settings = SETTINGS.model_copy(update={"build_timeout": 4.0})
    assert direct(project, "import time\ntime.sleep(600)\n", settings).problem.code == "build_timeout"


@attempt("build", "a sparse file of 100 GB in the environment", "bytes that come out, holes too", "install_failed")
def test_a_file_larger_than_the_disk_of_a_build_is_refused(project: Project) -> None:
    program = FILL + "f = open('holes', 'wb')\nf.truncate(100 * 1024**3)\n"
    assert "File too large" in direct(project, program, SETTINGS).problem.message


def box(base: str, command: str) -> Box:
    labels = {"samovar": "1", "samovar.test": "1"}
    return Box(base, ["/bin/sh", "-c", command], labels, 64 * MIB, 32, 20.0, user="0:0", output=MIB, disk=192 * MIB)


@attempt("build", "a flood of output", "who floods is hung up on and killed", "ended within seconds")
def test_a_flood_is_ended_at_once_and_holds_up_nobody(base_image: str) -> None:
    with Builder() as builder, builder.container(box(base_image, "exec yes")) as container:
        outcome = container.run(stdout=lambda line: None, stderr=lambda line: None)
    assert outcome.flooded
    # the engine waits two seconds for whoever reads, and no longer
    assert outcome.seconds < 15


@attempt(
    "build", "sparse files, as many as one likes", "bytes of what comes out, before it does", "build_too_large"
)
def test_sparse_files_do_not_pass_through_the_engine(base_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "mkdir /made; for n in 1 2 3 4; do truncate -s 100M /made/$n; done"
    with Builder() as builder, builder.container(box(base_image, command)) as container:
        outcome = container.run(stdout=lambda line: None, stderr=lambda line: None)
        assert (outcome.exit_code, outcome.overran) == (0, "")
        if container.layer() is not None:
            monkeypatch.setattr(container, "archived", lambda path: pytest.fail("the engine was asked for it"))
        with pytest.raises(BuildError) as caught:
            container.copy_out("/made", 192 * MIB)
    assert caught.value.problem.code == "build_too_large"


INDEX = {
    "output without end at import": ("index_output", "while True: print('x' * 1000)\n"),
    "a line of 100 MB at import": (
        "index_output",
        "import os\nfor _ in range(100): os.write(1, b'x' * 1024 * 1024)\nos._exit(0)\n",
    ),
    "an index nested 200,000 deep": (
        "index_failed",
        "import os\nos.write(1, b'{\"tasks\": ' + b'[' * 200_000 + b'\\n')\nos._exit(0)\n",
    ),
    "an index with a number of 100,000 digits": (
        "index_failed",
        "import os\nos.write(1, b'{\"tasks\": [' + b'9' * 100_000 + b']}\\n')\nos._exit(0)\n",
    ),
    "an index with forged fields": (
        "index_failed",
        'import os\nos.write(1, b\'{"tasks": {}, "error": {"code": [], "message": 7}}\\n\')\nos._exit(0)\n',
    ),
    "memory at import": ("index_out_of_memory", "held = [bytearray(10**7) for _ in range(1000)]\n"),
    "files without end at import": (
        "import_error",
        "n = 0\nwhile True:\n    open(f'/tmp/f{n}', 'w').close()\n    n += 1\n",
    ),
    "a file without end at import": (
        "import_error",
        "import os\nf = open('/tmp/big', 'wb')\nwhile True: f.write(bytes(1 << 20))\n",
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=attempt("build", name, "the index's container and reader", code))
        for name, (code, _) in INDEX.items()
    ],
)
def test_an_import_that_attacks_is_a_failed_deploy(project: Project, name: str) -> None:
    code, program = INDEX[name]
    settings = SETTINGS.model_copy(update={"index_memory": 192 * MIB})
    with pytest.raises(BuildError) as caught:
        project.build({"tasks.py": program}, settings)
    problem = caught.value.problem
    assert problem.code == code, problem
    assert project.containers() == []


def wheel(name: str, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = f"{name}-1.dist-info"
        files = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return buffer.getvalue()


@attempt(
    "build", "a wheel with code that every Python runs at its start", "what has a network runs nothing", "not run"
)
def test_a_wheel_is_not_run_where_it_is_installed(project: Project) -> None:
    # two calls of uv: the second finds an environment in which the first's packages are
    ran = "/opt/samovar/env/it-was-run"
    files = {
        "hostile.pth": f"import os; os.path.isdir('/opt/samovar/uv') and open('{ran}', 'w')\n",
        "hostile.py": "",
    }
    locked = (
        'version = 1\nrequires-python = ">=3.9"\n[[package]]\nname = "orders"\nversion = "1"\n'
        'source = { virtual = "." }\ndependencies = [{ name = "hostile" }, { name = "six" }]\n'
        '[[package]]\nname = "hostile"\nversion = "1"\nsource = { path = "hostile-1-py3-none-any.whl" }\n'
        '[[package]]\nname = "six"\nversion = "1.16.0"\nsource = { registry = "https://pypi\x2eorg/simple" }\n'
        'wheels = [{ url = "https://files.example/six.whl", hash = '
        '"sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254" }]\n'
    )
    built = project.build(
        {
            "uv.lock": locked,
            "hostile-1-py3-none-any.whl": wheel("hostile", files),
            "tasks.py": "import six\n" + TASK,
        },
        SETTINGS,
        'requirements = "uv.lock"\n',
    )
    assert sum(line.startswith("Installed 1 package") for line in project.log) == 2, project.log
    paths = project.names(built.image)
    assert any(path.endswith("/hostile.pth") for path in paths)
    assert ran.lstrip("/") not in paths


@attempt("build", "a setuid file or a capability of the base", "no such bits in an image", "none is there")
def test_no_file_of_an_image_gives_rights(project: Project) -> None:
    built = project.build({}, SETTINGS)
    program = (
        "import os, stat\n"
        "for path, directories, names in os.walk('/'):\n"
        "    if path == '/': directories[:] = [d for d in directories if d not in ('proc', 'sys', 'dev')]\n"
        "    for name in [*directories, *names]:\n"
        "        whole = os.path.join(path, name)\n"
        "        try: mode = os.lstat(whole).st_mode\n"
        "        except OSError: continue\n"
        "        held = os.listxattr(whole, follow_symlinks=False)\n"
        "        if mode & 0o6000 or 'security.capability' in held: print(whole)\n"
    )
    assert project.run(built.image, "/opt/samovar/env/bin/python", "-c", program) == ""


@attempt("build", "an image of another project's as the base", "a list of bases", "base_not_allowed")
def test_another_projects_image_is_no_base_whether_it_is_there_or_not(project: Project) -> None:
    there = project.build({}, SETTINGS).image
    said = []
    for name in (there, there[:-4] + "0000"):
        with pytest.raises(BuildError) as caught:
            project.build({}, SETTINGS.model_copy(update={"bases": ("python", "samovar/*")}), f'base = "{name}"\n')
        assert caught.value.problem.code == "base_not_allowed"
        said.append(caught.value.problem.message.replace(name, "NAME"))
    assert said[0] == said[1]


@attempt("build", "a base larger than may be", "a limit on the size of bases", "base_too_large")
def test_a_base_that_is_too_large_is_refused(project: Project) -> None:
    settings = SETTINGS.model_copy(update={"base_size": 10 * MIB})
    with pytest.raises(BuildError) as caught:
        project.build({}, settings, 'base = "samovar/base:bookworm"\n')
    assert caught.value.problem.code == "base_too_large"
    assert "[images] base_size" in caught.value.problem.message
