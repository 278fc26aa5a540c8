"""The index, run as it runs in an image: by its path, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import samovar
from jsonschema import Draft202012Validator
from samovar.declare.options import DEFAULTS

INDEX = Path(samovar.__file__).parent / "index.py"


def index(
    folder: Path, code: str, defaults: dict[str, Any] | None = None, modules: Sequence[str] = ("job",)
) -> Any:
    """(exit code, document, stderr)."""
    (folder / "job.py").write_text(textwrap.dedent(code))
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"project": "p", "modules": modules, "defaults": defaults or {}}))
    found = subprocess.run(
        [sys.executable, "-I", str(INDEX), "--manifest", str(manifest), "--code", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, json.loads(found.stdout.splitlines()[-1]), found.stderr


def test_tasks_with_schema_and_resolved_options(tmp_path: Path) -> None:
    code, document, stderr = index(
        tmp_path,
        '''
        import os, threading, time
        from samovar import task, Retry
        print("hello from python")
        os.system("echo hello from a child")
        threading.Thread(target=time.sleep, args=(3600,)).start()
        @task(retry=Retry(max_attempts=3))
        def one(n: int, name: str = "x"):
            """Does one thing.

            At length."""
        @task(id="other", cpu=2)
        async def two(): ...
        ''',
        {"memory": "64m", "retry": {"max_attempts": 2, "min_delay": "5s"}},
    )
    assert code == 0, document
    assert "hello from python" in stderr
    assert "hello from a child" in stderr
    assert (document["sdk"], document["python"]) == (samovar.__version__, sys.version.split()[0])
    one, two = document["tasks"]
    assert (one["id"], one["module"], one["name"], one["doc"]) == ("one", "job", "one", "Does one thing.")
    Draft202012Validator.check_schema(one["schema"])
    assert one["schema"]["required"] == ["n"]
    assert one["options"]["memory"] == 64 * 1024**2
    assert one["options"]["retry"]["max_attempts"] == 3
    assert two["options"]["retry"]["min_delay"] == 5.0
    assert two["options"] == {**DEFAULTS, "cpu": 2.0, "memory": 64 * 1024**2, "retry": two["options"]["retry"]}


def test_queues_stand_whole_at_every_task_that_names_them(tmp_path: Path) -> None:
    code, document, _ = index(
        tmp_path,
        """
        from samovar import Queue, task
        @task(queue=Queue("orders", concurrency=10, per_key=1, rate="10/30s"), concurrency_key="customer.id")
        def one(customer: dict): ...
        @task(queue="orders")
        def two(): ...
        @task
        def three(): ...
        """,
        {"queue": {"name": "rest", "concurrency": 2, "on_full": "skip"}},
    )
    assert code == 0, document
    one, two, three = (task["options"] for task in document["tasks"])
    assert one["queue"] == {
        "name": "orders", "concurrency": 10, "per_key": 1, "rate": {"limit": 10, "period": 30.0},
        "rate_excess": "wait", "on_full": "queue",
    }  # fmt: skip
    assert (one["concurrency_key"], two["concurrency_key"]) == ("customer.id", None)
    assert two["queue"] == one["queue"]
    assert (three["queue"]["name"], three["queue"]["on_full"]) == ("rest", "skip")


@pytest.mark.parametrize(
    ("code", "defaults", "modules", "problem", "words"),
    [
        (
            "from samovar import task, Queue\n@task(queue=Queue('q', concurrency=2))\ndef one(): ...\n"
            "@task(queue=Queue('q', concurrency=3))\ndef two(): ...",
            {},
            ("job",),
            "bad_option",
            "the queue 'q' is declared twice, and not alike: concurrency 2 and 3, by task 'one' (",
        ),
        (
            "from samovar import task\n@task(queue='orders')\ndef one(): ...",
            {},
            ("job",),
            "bad_option",
            'is declared nowhere in the project: give Queue("orders", ...) once',
        ),
        (
            "from samovar import task\n@task(concurrency_key='custmer.id')\ndef one(customer: dict): ...",
            {},
            ("job",),
            "bad_option",
            "the task has no parameter 'custmer'; did you mean 'customer'?",
        ),
        (
            "from samovar import task\n@task\ndef one(): ...",
            {"queue": {"name": "q", "rate": "fast"}},
            ("job",),
            "bad_option",
            "defaults.queue: Queue(rate='fast'): give runs per time",
        ),
        ("", {}, ("nowhere",), "missing_module", "there is no module 'nowhere'"),
        ("", {}, ("nowhere.tasks",), "missing_module", "there is no module 'nowhere.tasks'"),
        ("import gone", {}, ("job",), "import_error", "add it to the project's requirements"),
        ("def f(:\n  pass", {}, ("job",), "syntax_error", "job.py:1: SyntaxError: invalid syntax\n    def f(:"),
        ("x = 1\n1/0", {}, ("job",), "import_error", "line 2, in <module>"),
        ("import sys; sys.exit(0)", {}, ("job",), "import_error", "SystemExit"),
        ("x = 1", {}, ("job",), "no_tasks", "put @samovar.task on a function"),
        (
            "from samovar import task\n@task(id='a')\ndef one(): ...\n@task(id='a')\ndef two(): ...",
            {},
            ("job",),
            "duplicate_task",
            "two tasks have the id 'a': job.one (",
        ),
        (
            "from samovar import task\n@task(memory='2m')\ndef one(): ...",
            {},
            ("job",),
            "bad_option",
            "memory='2m' is 2 MiB",
        ),
        (
            "from samovar import task\n@task\ndef one(x: print): ...",
            {},
            ("job",),
            "bad_option",
            "parameter 'x': ",
        ),
        (
            "from samovar import task\n@task\ndef one(): ...",
            {"memory": "2m", "tiemout": 1},
            ("job",),
            "bad_option",
            "defaults.tiemout: unknown option 'tiemout': did you mean 'timeout'?",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_document(
    tmp_path: Path, code: str, defaults: dict[str, Any], modules: tuple[str, ...], problem: str, words: str
) -> None:
    exit_code, document, _ = index(tmp_path, code, defaults, modules)
    assert exit_code == 1
    assert document["error"]["code"] == problem
    assert words in document["error"]["message"]
    for field in document["error"]["fields"]:
        assert set(field) == {"path", "message"}
    if problem == "duplicate_task":
        assert "job.two (" in document["error"]["message"]
    assert str(INDEX.parent) not in document["error"]["message"], "the SDK's own frames are not the user's matter"


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-I", str(INDEX), "--manifest", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert json.loads(found.stdout)["error"]["code"] == "manifest"
