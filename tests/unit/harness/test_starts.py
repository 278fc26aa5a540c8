"""How a run begins: forked where that is safe, in an interpreter of its own where it is not, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samovar import wire

from tests.unit.harness.listener import Container

Make = Callable[..., Container]

#: A line at import in a file tells how often that was.
HEAD = """
import os
from samovar import task
"""


def results(one: Container, task: str, runs: int = 2, **fields: object) -> list[object]:
    return [one.run(task, f"a{number}", **fields)["result"] for number in range(1, runs + 1)]


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (
            "import threading\nstop = threading.Event()\n"
            "threading.Thread(target=stop.wait, name='beat', daemon=True).start()",
            "the thread 'beat'",
        ),
        ("import socket\none, other = socket.socketpair()", "a pair of sockets"),
        ("import socket\nlistener = socket.create_server(('127.0.0.1', 0))", "a listener at 127.0.0.1"),
        ("import asyncio\nloop = asyncio.new_event_loop()", "an event loop"),
        ("import os\nends = os.pipe()", "a pipe"),
        (
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)",
            "threads of a native library",
        ),
        ("import tempfile\nfile = tempfile.TemporaryFile()", "the open file"),
        (
            "import sqlite3, tempfile\ndb = sqlite3.connect(tempfile.mktemp())\ndb.execute('create table t(x)')",
            "the open",
        ),
        ("import multiprocessing\nlock = multiprocessing.Lock()", "memory that processes share"),
        ("import mmap\nshared = mmap.mmap(-1, 4096)", "memory that processes share"),
        ("import os\nPID = os.getpid()", "the process id in job.PID"),
        ("import os\nclass Worker:\n    pid = os.getpid()", "the process id in job.Worker.pid"),
        ("import os\nclass W: pass\nme = W()\nme._pid = os.getpid()", "the process id in job.me._pid"),
        ("import subprocess\nchild = subprocess.Popen(['sleep', '600'])", "the process"),
        (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "pool = ThreadPoolExecutor(1)\npool.submit(int).result()",
            "the thread 'ThreadPoolExecutor",
        ),
    ],
)
def test_what_a_fork_would_break_starts_each_run_in_an_interpreter_of_its_own(
    container: Make, made: str, named: str
) -> None:
    one = container(
        f"""
{made}
import os
from samovar import task
here = os.getpid()
@task
def own() -> bool:
    return here == os.getpid()
"""
    )
    assert results(one, "own") == [True, True]
    for attempt in ("a1", "a2"):
        notices = [line for line in one.sidecar.lines(attempt) if line["logger"] == "samovar"]
        assert len(notices) == 1, notices
        assert named in notices[0]["message"]
        assert "start=" in notices[0]["message"]
        assert notices[0]["level"] == "info"


def test_a_plain_project_is_forked(container: Make) -> None:
    one = container(f"{HEAD}\nhere = os.getpid()\n@task\ndef own() -> bool:\n    return here == os.getpid()")
    assert results(one, "own") == [False, False]
    assert one.messages() == []


def test_a_logger_of_threads_works_where_each_run_has_its_own(container: Make) -> None:
    one = container(
        """
        import logging, logging.handlers, queue
        from samovar import task
        records = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(records, logging.StreamHandler())
        listener.start()
        logging.getLogger("job").addHandler(logging.handlers.QueueHandler(records))
        @task
        def speak() -> None:
            logging.getLogger("job").warning("said in a thread")
            listener.stop()
        """
    )
    for attempt in ("a1", "a2"):
        assert one.run("speak", attempt)["outcome"] == wire.COMPLETED
        assert any("said in a thread" in text for text in one.messages(attempt))


@pytest.mark.parametrize(("start", "own"), [("fork", False), ("fresh", True), ("auto", True)])
def test_the_author_decides_where_he_knows_better(container: Make, start: str, own: bool) -> None:
    one = container(
        f"""
import os, threading
from samovar import task
threading.Thread(target=threading.Event().wait, daemon=True).start()
here = os.getpid()
@task(start={start!r})
def own() -> bool:
    return here == os.getpid()
"""
    )
    assert results(one, "own", start=start) == [own, own]
    assert bool([text for text in one.messages("a1") if "importing the project" in text]) == (start == "auto")


def test_tasks_of_one_project_start_each_in_its_way(container: Make) -> None:
    one = container(
        """
        import os, threading
        from samovar import task
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        here = os.getpid()
        @task(start="fork")
        def forked() -> bool:
            return here == os.getpid()
        @task
        def own() -> bool:
            return here == os.getpid()
        """
    )
    assert one.run("forked", "a1", start="fork")["result"] is False
    assert one.run("own", "a2", start="auto")["result"] is True
    assert one.run("forked", "a3", start="fork")["result"] is False


def test_a_fresh_run_says_what_its_import_says(container: Make) -> None:
    one = container(f"{HEAD}\nprint('imported')\n@task(start='fresh')\ndef f() -> None:\n    print('ran')")
    for attempt in ("a2", "a3"):
        one.run("f", attempt, start="fresh")
        assert one.messages(attempt, "stdout")[-2:] == ["imported", "ran"]


def test_a_fresh_run_that_cannot_import_says_so(container: Make, tmp_path: Path) -> None:
    mark = tmp_path / "once"
    one = container(
        f"""
import os, threading
from samovar import task
threading.Thread(target=threading.Event().wait, daemon=True).start()
if os.path.exists({str(mark)!r}):
    raise RuntimeError("the second time")
open({str(mark)!r}, "w").close()
@task
def f() -> None: ...
"""
    )
    finish = one.run("f")
    assert (finish["outcome"], finish["error"]["type"]) == (wire.FAILED, "ImportError")
    assert "the second time" in finish["error"]["message"]
    assert "job.py" in finish["error"]["traceback"]


GENERATORS = """
import random
from samovar import task
{made}
@task
def draw() -> float:
    return float(draw_one())
"""


@pytest.mark.parametrize(
    "made",
    [
        "generator = random.Random()\ndraw_one = generator.random",
        "class Dice:\n    generator = random.Random()\ndraw_one = Dice.generator.random",
        "boxes = [{'one': random.Random()}]\ndef draw_one(): return boxes[0]['one'].random()",
        "draw_one = random.random",
        "import numpy\ndraw_one = numpy.random.default_rng().random",
        "import numpy\ndraw_one = numpy.random.RandomState().random_sample",
        "import numpy\ndraw_one = numpy.random.random",
        "import numpy\ndraw_one = numpy.random.Generator(numpy.random.PCG64()).random",
    ],
)
def test_generators_without_a_seed_draw_other_numbers_in_each_run(container: Make, made: str) -> None:
    one = container(GENERATORS.format(made=made))
    drawn = results(one, "draw", 3)
    assert len(set(map(str, drawn))) == 3


@pytest.mark.parametrize(
    "made",
    [
        "generator = random.Random(42)\ndraw_one = generator.random",
        "random.seed(42)\ndraw_one = random.random",
        "import numpy\ndraw_one = numpy.random.default_rng(42).random",
        "import numpy\ndraw_one = numpy.random.RandomState(42).random_sample",
        "import numpy\nnumpy.random.seed(42)\ndraw_one = numpy.random.random",
    ],
)
def test_generators_with_a_seed_keep_to_it(container: Make, made: str) -> None:
    one = container(GENERATORS.format(made=made))
    assert len(set(map(str, results(one, "draw", 3)))) == 1


def test_what_an_import_leaves_in_scratch_is_there_in_every_run(container: Make) -> None:
    one = container(
        """
        import os, tempfile
        from samovar import task
        folder = tempfile.TemporaryDirectory(dir=os.environ["HOME"])
        with open(os.path.join(folder.name, "model"), "w") as file:
            file.write("weights")
        @task
        def read() -> str:
            open(os.path.join(os.environ["HOME"], "own"), "w").close()
            return open(os.path.join(folder.name, "model")).read()
        @task
        def spoil() -> None:
            open(os.path.join(folder.name, "model"), "a").write("more")
        """
    )
    for attempt in ("a1", "a2"):
        finish = one.run("read", attempt)
        assert finish["result"] == "weights"
        assert finish["container"]["clean"] is True, finish
    assert not (one.scratch / "own").exists()
    assert one.run("spoil", "a3")["container"]["clean"] is False


SECRET = """
import os
from samovar import task
KEY = {read}
@task(secrets=["API_KEY"])
def key() -> str:
    return KEY
"""


@pytest.mark.parametrize(
    "read",
    [
        "os.environ['API_KEY']",
        "os.environ.get('API_KEY')",
        "os.getenv('API_KEY')",
        "dict(os.environ).get('API_KEY')",
    ],
)
def test_a_secret_that_a_module_reads_is_there_when_it_is_imported(container: Make, read: str) -> None:
    one = container(SECRET.format(read=read))
    for attempt, value in (("a1", "first"), ("a2", "second")):
        assert one.run("key", attempt, environment={"API_KEY": value})["result"] == value
    assert "API_KEY" in one.messages("a1")[0] or "all variables" in one.messages("a1")[0]


@pytest.mark.parametrize("read", ["os.environ['API_KEY']", "os.getenv('API_KEY')"])
def test_a_secret_of_the_projects_defaults_is_one_too(container: Make, read: str) -> None:
    code = SECRET.format(read=read).replace('(secrets=["API_KEY"])', "")
    one = container(code, defaults={"secrets": ["API_KEY"]})
    assert one.run("key", environment={"API_KEY": "mine"})["result"] == "mine"


def test_a_start_of_the_projects_defaults_decides_too(container: Make) -> None:
    one = container(
        "import os, threading\nfrom samovar import task\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\nhere = os.getpid()\n"
        "@task\ndef own() -> bool:\n    return here == os.getpid()",
        defaults={"start": "fork"},
    )
    assert results(one, "own", start="fork") == [False, False]


#: What an import makes (`shared`), and how a run leaves a mark in it and finds that of the run before it.
CARRIERS = {
    "shared memory": "import mmap\nshared = mmap.mmap(-1, 4096)\ndef mark():\n"
    "    found = shared[0]\n    shared[0] = 1\n    return bool(found)",
    "a pipe": "r, w = os.pipe()\nos.set_blocking(r, False)\n"
    "def mark():\n    try:\n        return bool(os.read(r, 1))\n"
    "    except BlockingIOError:\n        os.write(w, b'x')\n        return False",
    "a memfd": "shared = os.memfd_create('m')\ndef mark():\n    found = os.pread(shared, 1, 0)\n"
    "    os.pwrite(shared, b'x', 0)\n    return bool(found)",
    "a memfd that reads only, and is mapped": "import mmap\nfirst = os.memfd_create('m')\n"
    "os.write(first, bytes(4096))\n"
    "shared = os.open(f'/proc/self/fd/{first}', os.O_RDONLY)\nos.close(first)\n"
    "m = mmap.mmap(shared, 4096, prot=mmap.PROT_READ)\ndef mark():\n"
    "    again = os.open(f'/proc/self/fd/{shared}', os.O_RDWR)\n    found = os.pread(again, 1, 0) != b'\\0'\n"
    "    os.pwrite(again, b'x', 0)\n    return found",
    "memory that is made writable again": "import mmap, ctypes, tempfile\nfile = tempfile.TemporaryFile()\n"
    "file.truncate(4096)\nm = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)\n"
    "libc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
    "at = libc.mmap(None, 4096, 1, 1, file.fileno(), 0)\nm.close()\nfile.close()\ndef mark():\n"
    "    assert libc.mprotect(ctypes.c_void_p(at), 4096, 3) == 0\n    byte = ctypes.c_char.from_address(at)\n"
    "    found = byte.value != b'\\0'\n    byte.value = b'x'\n    return found",
    "what stands in the place of standard input": "file = os.memfd_create('m')\nos.dup2(file, 0)\nos.close(file)\n"
    "def mark():\n    found = os.pread(0, 1, 0)\n    os.pwrite(0, b'x', 0)\n    return bool(found)",
    "a thread": "import threading\nmarks = []\nasked = os.environ['HOME'] + '/ask'\ndef listen():\n"
    "    while not os.path.exists(asked): time.sleep(0.001)\n    marks.append(1)\n"
    "threading.Thread(target=listen, daemon=True).start()\ndef mark():\n    found = bool(marks)\n"
    "    open(asked, 'w').close()\n    time.sleep(0.1)\n    return found",
}


@pytest.mark.parametrize("what", CARRIERS)
def test_what_forked_runs_share_costs_the_container_its_reuse(container: Make, what: str) -> None:
    code = (
        f"import os, time\nfrom samovar import task\n{CARRIERS[what]}\n@task()\ndef t() -> bool:\n    return mark()"
    )
    one = container(code.replace("@task()", "@task(start='fork')"))
    finish = one.run("t", start="fork")
    assert (finish["result"], finish["container"]["clean"]) == (False, False), finish
    assert any("share_imports" in text for text in one.messages())


@pytest.mark.parametrize("what", [name for name in CARRIERS if name != "a thread"])
def test_a_fresh_run_has_nothing_of_what_imports_have_made_before(container: Make, what: str) -> None:
    """Descriptors that native code says are to outlive an exec among them."""
    keep = "for n in os.listdir('/proc/self/fd'):\n    try: os.set_inheritable(int(n), True)\n"
    keep += "    except OSError: pass\n"
    code = f"import os, time\nfrom samovar import task\n{CARRIERS[what]}\n{keep}\n@task()\ndef t() -> list:\n"
    code += "    return [mark(), len(os.listdir('/proc/self/fd'))]"
    one = container(code)
    first, second = one.run("t", "a1"), one.run("t", "a2")
    assert (first["result"], first["container"]["clean"]) == (second["result"], True)
    assert first["result"][0] is False


def test_an_author_may_accept_that_runs_share(container: Make) -> None:
    one = container(
        f"import os\nfrom samovar import task\n{CARRIERS['a memfd']}\n@task(start='fork', share_imports=True)\n"
        "def t() -> bool:\n    return mark()"
    )
    first, second = one.run("t", "a1", start="fork"), one.run("t", "a2", start="fork")
    assert (first["result"], first["container"]["clean"], one.messages("a1")) == (False, True, [])
    assert second["result"] is True


def test_each_task_that_is_forked_has_to_accept_it(container: Make) -> None:
    one = container(
        f"import os\nfrom samovar import task\n{CARRIERS['a memfd']}\n@task(start='fork', share_imports=True)\n"
        "def t() -> bool:\n    return mark()\n@task(start='fork')\ndef other() -> bool:\n    return mark()"
    )
    assert one.run("t", start="fork")["container"]["clean"] is False


def test_a_run_can_have_nothing_done_where_runs_are_forked(container: Make) -> None:
    """Neither by signals, nor by what waits there."""
    one = container(
        """
        import os, re, signal
        from samovar import task
        heard = []
        signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
        @task
        def poke() -> list:
            there = re.search("ShdPnd:\\\\s*(\\\\w+)", open(f"/proc/{os.getppid()}/status").read())[1]
            os.kill(os.getppid(), signal.SIGUSR1)
            os.kill(os.getppid(), signal.SIGRTMIN + 5)
            os.kill(os.getpid(), signal.SIGUSR1)
            return [len(heard), int(there, 16)]
        """
    )
    assert results(one, "poke", 3) == [[1, 0], [1, 0], [1, 0]]


@pytest.mark.parametrize(
    "deed",
    [
        "os.chmod(home, 0o711)",
        "os.utime(home, ns=(1, 1))",
        "was = os.stat(model)\nopen(model, 'r+').write('W')\nos.utime(model, ns=(1, was.st_mtime_ns))",
        "os.setxattr(model, 'user.mark', b'x')",
        "os.link(model, home + '/link')",
    ],
)
def test_what_a_run_changes_of_scratch_is_undone_or_seen(container: Make, deed: str) -> None:
    one = container(
        f"""
import os
from samovar import task
home = os.environ["HOME"]
model = home + "/model"
open(model, "w").write("weights")
def state(path):
    found = os.stat(path)
    return [found.st_mode, found.st_mtime_ns > 1, os.listxattr(path)]
@task
def look() -> list:
    return [state(home), state(model)]
@task
def spoil() -> None:
    {deed.replace(chr(10), chr(10) + "    ")}
"""
    )
    before = one.run("look", "a1")["result"]
    spoiled = one.run("spoil", "a2")
    assert spoiled["outcome"] == wire.COMPLETED, spoiled
    if spoiled["container"]["clean"]:
        assert one.run("look", "a3")["result"] == before


def test_a_fresh_run_beside_forked_ones_has_no_descriptor_that_an_import_left_open(container: Make) -> None:
    code = """
    import os
    import samovar

    READ, WRITE = os.pipe()
    for end in (READ, WRITE):
        os.set_inheritable(end, True)  # as native code leaves them

    @samovar.task(start="fork")
    def forked():
        return len(pipes())

    @samovar.task(start="fresh")
    def fresh():
        return len(pipes())

    def pipes():
        "Those of stdout and stderr, and the one that the import in this process has made."
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return {os.readlink(link) for link in links if os.path.exists(link) and "pipe:" in os.readlink(link)}
    """
    one = container(code)
    assert one.run("fresh", start="fresh")["result"] == 3
    assert one.run("forked", "a2", start="fork")["result"] == 3
