"""What user code starts from a run sees the project as a plain Python in its environment does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from samovar import wire

from tests.unit.harness.listener import Container

Make = Callable[..., Container]
HEAD = "from samovar import task\n@task\n"
STARTS = pytest.mark.parametrize("start", ["fork", "fresh"])


def result(one: Container, task: str, start: str) -> object:
    finish = one.run(task, start=start)
    assert finish["outcome"] == wire.COMPLETED, finish
    return finish["result"]


@STARTS
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_finds_the_project(container: Make, method: str, start: str) -> None:
    one = container(
        f"""
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from samovar import task
def work(n: int) -> tuple:
    import jsonschema
    return n * n, __name__, os.path.basename(sys.executable)
@task
def f() -> list:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({method!r})) as pool:
        return list(pool.map(work, [2, 3]))
"""
    )
    assert [part[:2] for part in result(one, "f", start)] == [[4, "job"], [9, "job"]]  # type: ignore[attr-defined]


@STARTS
def test_joblib_finds_the_project(container: Make, start: str) -> None:
    one = container(
        """
        from joblib import Parallel, delayed
        from samovar import task
        def work(n: int) -> int:
            return n * n
        @task
        def f() -> list:
            return Parallel(n_jobs=2)(delayed(work)(n) for n in range(4))
        """
    )
    assert result(one, "f", start) == [0, 1, 4, 9]


@STARTS
def test_subprocesses_of_the_same_interpreter_find_the_project(container: Make, start: str) -> None:
    one = container(
        """
        import subprocess, sys
        from samovar import task
        @task
        def f() -> list:
            code = "import job, jsonschema, samovar, sys; print(sys.flags.isolated, sys.flags.no_site)"
            plain = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            again = subprocess._args_from_interpreter_flags()
            module = subprocess.run([sys.executable, "-m", "job"], check=True, capture_output=True, text=True)
            return [plain.stdout.strip(), again, module.stdout.strip()]
        if __name__ == "__main__":
            print("as a module")
        """
    )
    assert result(one, "f", start) == ["0 0", [], "as a module"]


@STARTS
def test_asyncio_subprocesses_and_threads_work(container: Make, start: str) -> None:
    one = container(
        """
        import asyncio, sys
        from samovar import task
        @task
        async def f() -> str:
            code = "import job; print(job.WORD)"
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=-1)
            out, _ = await child.communicate()
            return await asyncio.to_thread(out.decode().strip)
        WORD = "found"
        """
    )
    assert result(one, "f", start) == "found"


@STARTS
def test_the_working_folder_is_the_projects_at_import_and_in_a_run(container: Make, start: str) -> None:
    one = container(
        """
        import os
        from samovar import task
        AT_IMPORT = open("job.py").read()[:5]
        @task
        def f() -> list:
            return [AT_IMPORT == open("job.py").read()[:5], os.path.basename(os.getcwd())]
        """
    )
    assert result(one, "f", start) == [True, "code"]


def test_a_file_that_is_not_there_says_where_it_was_looked_for(container: Make) -> None:
    one = container(
        "from samovar import task\n@task\ndef f() -> str:\n    return open('templates/mail.txt').read()"
    )
    message = one.run("f")["error"]["message"]
    assert "templates/mail.txt" in message
    assert str(one.folder / "code") in message


@STARTS
def test_a_module_of_the_project_may_be_called_as_one_of_pythons_own(container: Make, start: str) -> None:
    one = container("from samovar import task\n@task\ndef f() -> str:\n    import queue\n    return queue.WORD")
    (one.folder / "code" / "selectors.py").write_text("raise RuntimeError('not for the harness')")
    (one.folder / "code" / "socket.py").write_text("raise RuntimeError('not for the harness')")
    (one.folder / "code" / "queue.py").write_text("WORD = 'the project\\'s'")
    assert result(one, "f", start) == "the project's"


@STARTS
def test_processors_follow_the_container(container: Make, start: str) -> None:
    one = container(
        """
        import multiprocessing, os
        from samovar import task
        @task
        def f() -> list:
            asked = getattr(os, "process_cpu_count", os.cpu_count)
            return [os.cpu_count(), asked(), multiprocessing.cpu_count(), len(os.sched_getaffinity(0)),
                    os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]]
        """,
        SAMOVAR_CPUS="1",
    )
    assert result(one, "f", start) == [1, 1, 1, 1, "1", "1"]
