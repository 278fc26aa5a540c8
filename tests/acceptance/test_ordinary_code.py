"""Code as people write it, in real containers: what works in a plain environment works here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

HABITS = '''
import ctypes, multiprocessing, os, random, socket, subprocess, sys, tempfile, threading
from samovar import task

MODE = os.environ["MODE"]
TEMPLATE = open("templates/mail.txt").read()
DICE = random.Random()
for folder in ("/dev/shm", tempfile.gettempdir(), os.environ["HOME"]):
    with tempfile.NamedTemporaryFile(dir=folder):
        pass


@task
def roll() -> float:
    return DICE.random()


@task
def look() -> dict:
    return {
        "mode": MODE,
        "template": TEMPLATE == open("templates/mail.txt").read(),
        "folder": os.getcwd(),
        "host": socket.gethostbyname(socket.gethostname()),
        "cpus": [os.cpu_count(), len(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"]],
        "module": subprocess.run(
            [sys.executable, "-m", "letters.cli"], capture_output=True, text=True, check=True
        ).stdout.strip(),
    }


@task
def start_from_scratch() -> list:
    """Programs and libraries that are unpacked at run time start from where they lie."""
    said = []
    for folder in ("/tmp", os.environ["HOME"], "/dev/shm"):
        path = os.path.join(folder, "program")
        with open("/bin/echo", "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        os.chmod(path, 0o755)
        said.append(subprocess.run([path, "started"], capture_output=True, text=True, check=True).stdout.strip())
    library = next(line.split()[-1] for line in open("/proc/self/maps") if "libc" in line and line.count("/") > 1)
    with open(library, "rb") as source, open("/tmp/libown.so", "wb") as target:
        target.write(source.read())
    ctypes.CDLL("/tmp/libown.so")
    return said


def square(n: int) -> int:
    return n * n


@task(memory="512m")
def spread() -> list:
    found = []
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found.append(pool.map(square, [2, 3]))
    return found


@task(pids=40)
def many_threads() -> int:
    gate = threading.Event()
    threads = []
    try:
        for _ in range(100):
            threads.append(threading.Thread(target=gate.wait))
            threads[-1].start()
    finally:
        gate.set()
    return len(threads)


@task(memory="256m", scratch="16m")
def too_much_scratch() -> None:
    with open("/tmp/large", "wb") as file:
        for _ in range(64):
            file.write(bytes(1024 * 1024))


@task(pids=300)
def allowed_threads() -> int:
    gate = threading.Event()
    threads = [threading.Thread(target=gate.wait) for _ in range(200)]
    for thread in threads:
        thread.start()
    gate.set()
    return len(threads)


@task(machine="small")
def sized() -> list:
    return [os.cpu_count(), os.path.getsize("/proc/self/maps")]


@task
def missing() -> str:
    return open("templates/other.txt").read()


@task
def write_beside_the_code() -> None:
    open("out.csv", "w")
'''

THREADED = """
import logging, logging.handlers, multiprocessing, os, queue, threading
from samovar import task

LOCK = multiprocessing.Lock()
records = queue.SimpleQueue()
listener = logging.handlers.QueueListener(records, logging.StreamHandler())
listener.start()
logging.getLogger("threaded").addHandler(logging.handlers.QueueHandler(records))
HERE = os.getpid()


@task
def speak() -> bool:
    with LOCK:
        logging.getLogger("threaded").warning("through a thread")
    listener.stop()
    return HERE == os.getpid()
"""


def project(folder: Path, name: str, code: str, toml: str = "") -> Path:
    made = folder / name
    (made / "letters").mkdir(parents=True)
    (made / "templates").mkdir()
    (made / "templates" / "mail.txt").write_text("Dear {name}")
    (made / "letters" / "__init__.py").write_text("")
    (made / "letters" / "cli.py").write_text("import tasks\nprint('a module of the project')\n")
    (made / "tasks.py").write_text(code)
    (made / "samovar.toml").write_text(f'[project]\nname = "{name}"\ntasks = ["tasks"]\n{toml}')
    return made


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        yield made


@pytest.fixture(scope="module")
def habits(samovar: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    folder = tmp_path_factory.mktemp("habits")
    samovar.deploy_path(project(folder, "habits", HABITS, '[env]\nMODE = "plain"\n'))
    return samovar


def result(made: Stack, task: str, **payload: Any) -> Any:
    run = made.finished(task, **payload)
    assert run["status"] == "completed", run["error"]
    return run["result"]


def message(made: Stack, task: str) -> str:
    run = made.finished(task)
    assert run["status"] == "failed", run
    return str(run["error"]["message"])


def test_the_environment_is_one(habits: Stack) -> None:
    found = result(habits, "look")
    assert found == {
        "mode": "plain",
        "template": True,
        "folder": "/app",
        "host": "127.0.0.1",
        "cpus": [1, 1, "1"],
        "module": "a module of the project",
    }


def test_each_warm_run_draws_numbers_of_its_own(habits: Stack) -> None:
    assert len({result(habits, "roll") for _ in range(4)}) == 4


def test_programs_and_libraries_start_from_scratch(habits: Stack) -> None:
    assert result(habits, "start-from-scratch") == ["started"] * 3


def test_multiprocessing_works_by_every_method(habits: Stack) -> None:
    assert result(habits, "spread") == [[4, 9]] * 3


def test_limits_are_options_and_errors_name_them(habits: Stack) -> None:
    said = message(habits, "many-threads")
    assert "40 processes and threads" in said
    assert "pids=" in said
    said = message(habits, "too-much-scratch")
    assert "16 MiB" in said
    assert "scratch=" in said
    assert result(habits, "allowed-threads") == 200


def test_a_machine_is_memory_and_processors_by_name(habits: Stack) -> None:
    run = habits.finished("sized")
    assert run["status"] == "completed", run["error"]
    assert run["usage"]["memory_limit_bytes"] == 512 * 1024**2
    assert run["result"][0] == 1


def test_errors_of_files_say_where_they_were_looked_for(habits: Stack) -> None:
    said = message(habits, "missing")
    assert "templates/other.txt" in said
    assert "/app" in said
    said = message(habits, "write-beside-the-code")
    assert "read-only" in said
    assert "/tmp" in said


def test_what_a_fork_breaks_is_said_at_deploy_and_on_the_run(samovar: Stack, tmp_path: Path) -> None:
    deployed = samovar.run("deploy", str(project(tmp_path, "threaded", THREADED)))
    assert deployed.returncode == 0, deployed.stderr
    assert "_monitor" in deployed.stderr
    assert "memory that processes share" in deployed.stderr
    assert 'start="fork"' in deployed.stderr
    for _ in range(2):
        run = samovar.finished("speak")
        assert (run["status"], run["result"]) == ("completed", True), run["error"]
        lines = samovar.cli("runs", "logs", run["id"])
        assert [line["message"] for line in lines if line["logger"] == "samovar"], lines
        assert any("through a thread" in line["message"] for line in lines)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('import os\nURL = os.environ["DATABASE_URL"]\n', "[env] DATABASE_URL"),
        ("import machine_learning\n", "machine_learning"),
        ("text = open('templates/none.txt').read()\n", "looked for in /app"),
    ],
)
def test_an_import_that_fails_says_what_to_put_right(samovar: Stack, tmp_path: Path, code: str, said: str) -> None:
    code += "from samovar import task\n@task\ndef f() -> None: ...\n"
    refused = samovar.cli("deploy", str(project(tmp_path, "refused", code)), code=2)
    assert said in refused["error"]["message"]


def test_a_secret_may_be_read_at_import(samovar: Stack, tmp_path: Path) -> None:
    code = (
        "import os\nfrom samovar import task\nURL = os.environ['DATABASE_URL'].strip()\n"
        "@task(secrets=['DATABASE_URL'])\ndef f() -> None: ...\n"
    )
    deployed = samovar.run("deploy", str(project(tmp_path, "secretive", code)))
    assert deployed.returncode == 0, deployed.stderr
    assert "the secret DATABASE_URL" in deployed.stderr


def test_a_machine_that_is_not_there_is_refused_with_the_known_ones(samovar: Stack, tmp_path: Path) -> None:
    code = "from samovar import task\n@task(machine='smal')\ndef f() -> None: ...\n"
    refused = samovar.cli("deploy", str(project(tmp_path, "unsized", code)), code=2)
    assert "did you mean 'small'" in str(refused["error"])
