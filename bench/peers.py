"""Peers and floors: the same work without Samovar, on the same engine and from the same image."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import psycopg
from samovar.wire import IMAGE_CODE, IMAGE_ENVIRONMENT

from coordinator.storage import dialect

PYTHON = f"{IMAGE_ENVIRONMENT}/bin/python"
_STAMP = "import time; print(time.time())"
_SLEEP = "import time; time.sleep(3600)"


class Docker:
    """Plain Docker. Everything made here carries `label`, and `close` removes what is left of it."""

    def __init__(self, label: str) -> None:
        self.engine = docker.APIClient(version="auto")
        self._name, self._value = "samovar.bench", label
        self._labels = {"samovar": "1", self._name: label}

    def run_by_cli(self, image: str) -> tuple[float, float]:
        """`docker run --rm` of Python: seconds to its first line, and to the command's end."""
        labels = [f"--label={name}={value}" for name, value in self._labels.items()]
        command = ["docker", "run", "--rm", "--network=none", *labels, f"--entrypoint={PYTHON}", image]
        began = time.time()
        said = subprocess.run([*command, "-I", "-c", _STAMP], capture_output=True, check=True, text=True).stdout
        ended = time.time()
        return float(said) - began, ended - began

    def run_by_api(self, image: str) -> tuple[float, float]:
        """docker-py's create, start, wait, remove: seconds to the first line, and to the end of the removal."""
        began = time.time()
        name = self._create(image, _STAMP)
        self.engine.start(name)
        self.engine.wait(name)
        said = self.engine.logs(name, stderr=False)
        self.engine.remove_container(name)
        ended = time.time()
        return float(said) - began, ended - began

    @contextlib.contextmanager
    def idle(self, image: str) -> Iterator[str]:
        """A container whose Python does nothing; its id."""
        name = self._create(image, _SLEEP)
        try:
            self.engine.start(name)
            yield name
        finally:
            self.engine.remove_container(name, force=True)

    def execute(self, container: str) -> float:
        """`docker exec` of Python in a running container: seconds to its first line."""
        began = time.time()
        command = ["docker", "exec", container, PYTHON, "-I", "-c", _STAMP]
        said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        return float(said) - began

    def build(self, below: str, code: Path, number: int) -> float:
        """Seconds of `docker build` of a Dockerfile that copies `code` onto `below`."""
        dockerfile = f"FROM {below}\nCOPY . {IMAGE_CODE}\n"
        labels = [f"--label={name}={value}" for name, value in self._labels.items()]
        command = ["docker", "build", "-q", *labels, "-t", f"samovar-bench/built:{self._value}-{number}"]
        began = time.time()
        subprocess.run(
            [*command, "-f", "-", str(code)],
            input=dockerfile, capture_output=True, check=True, text=True,
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
        )  # fmt: skip
        return time.time() - began

    def commit(self, below: str, code: Path, number: int) -> float:
        """Seconds to create a container of `below`, put `code` into it, commit and remove it."""
        began = time.time()
        name = self._create(below, _STAMP)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(code, IMAGE_CODE.lstrip("/"))
        self.engine.put_archive(name, "/", archive.getvalue())
        self.engine.commit(
            name, "samovar-bench/committed", f"{self._value}-{number}", conf={"Labels": self._labels}
        )
        self.engine.remove_container(name)
        return time.time() - began

    def close(self) -> None:
        for container in self.engine.containers(all=True, filters=self._filters()):
            self.engine.remove_container(container["Id"], force=True, v=True)
        for image in self.engine.images(filters=self._filters()):
            for tag in image["RepoTags"] or [image["Id"]]:
                self.engine.remove_image(tag, force=True)
        self.engine.close()

    def _filters(self) -> dict[str, Any]:
        return {"label": [f"{self._name}={self._value}"]}

    def _create(self, image: str, program: str) -> str:
        host_config = self.engine.create_host_config(network_mode="none")
        created = self.engine.create_container(
            image, ["-I", "-c", program], entrypoint=[PYTHON], labels=self._labels, host_config=host_config
        )
        return str(created["Id"])


def fork_and_answer() -> float:
    """Seconds from a fork to the child's first line, by a pipe: the floor of anything that forks."""
    reading, writing = os.pipe()
    began = time.time()
    pid = os.fork()
    if pid == 0:
        os.write(writing, repr(time.time()).encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 64)
    os.close(reading)
    os.waitpid(pid, 0)
    return float(said) - began


class Sqlite:
    """Commits of one row each, as durable as the coordinator's: WAL with synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY, value TEXT)")

    def commit(self) -> float:
        """Seconds of one transaction."""
        began = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO steps (value) VALUES ('1')")
        self._connection.execute("COMMIT")
        return time.perf_counter() - began

    def count(self) -> int:
        """The rows committed so far."""
        return int(self._connection.execute("SELECT count(*) FROM steps").fetchone()[0])

    def close(self) -> None:
        self._connection.close()


class Postgres:
    """Commits of one row each in the database at `url`."""

    def __init__(self, url: str) -> None:
        arguments = dialect.session(url)
        assert arguments is not None
        self._connection = psycopg.connect(**arguments)
        columns = "id bigint GENERATED ALWAYS AS IDENTITY, value text"
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS bench_steps ({columns})")
        self._connection.commit()

    def commit(self) -> float:
        """Seconds of one transaction."""
        began = time.perf_counter()
        self._connection.execute("INSERT INTO bench_steps (value) VALUES ('1')")
        self._connection.commit()
        return time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()
