"""A harness in a hardened container of its own, to speak the container protocol with."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import samovar
from samovar import wire

from runner import seccomp
from tests.unit.harness.listener import Container, Listener

MEMORY = 256 * 1024**2


class Docked(Container):
    """A Container whose harness runs in Docker, with the shipped limits."""

    #: What is process 1.
    command: tuple[str, ...] = ("python3", "-I", "-S", f"{wire.IMAGE_SDK}/samovar/harness/boot.py")

    def __init__(self, folder: Path, image: str, code: str, *mounts: str) -> None:
        self.folder = folder
        self._short = Path(f"/tmp/samovar-test-{uuid.uuid4().hex[:8]}")
        self._short.mkdir(mode=0o755)
        self.sidecar = Listener(self._short / wire.SOCKET_NAME)
        self.sidecar.path.chmod(0o777)  # the container's user is another
        (folder / "job.py").write_text(textwrap.dedent(code))
        (folder / "manifest.json").write_text(json.dumps({"project": "p", "modules": ["job"]}))
        for path in (folder, folder / "job.py", folder / "manifest.json"):
            path.chmod(0o755)
        profile = folder / "seccomp.json"
        profile.write_text(seccomp.profile())
        self.name = f"samovar-test-{uuid.uuid4().hex[:8]}"
        limits = ["--memory", str(MEMORY), "--memory-swap", str(MEMORY), "--pids-limit", "128", "--cap-drop", "ALL"]
        limits += [
            "--security-opt",
            "no-new-privileges",
            "--network",
            "none",
            "--read-only",
            "--log-driver",
            "none",
            "--security-opt",
            f"seccomp={profile}",
            "--tmpfs",
            f"/home/task:size=16m,mode=1777,uid={wire.TASK_UID},gid={wire.TASK_UID}",
            "--env",
            "HOME=/home/task",
        ]
        limits += ["--user", f"{wire.TASK_UID}:{wire.TASK_UID}", "--tmpfs", "/tmp:size=16m,mode=1777"]
        given = [
            f"{self._short}:{wire.SOCKET_DIRECTORY}:ro",
            f"{Path(samovar.__file__).parent}:{wire.IMAGE_SDK}/samovar:ro",
            f"{folder / 'job.py'}:{wire.IMAGE_CODE}/job.py:ro",
            f"{folder / 'manifest.json'}:{wire.IMAGE_MANIFEST}:ro",
            *mounts,
        ]
        docker(
            "run", "-d", "--name", self.name, "--label", "samovar=1", "--label", "samovar.test=1", *limits,
            *(word for mount in given for word in ("-v", mount)),
            image, *self.command,
        )  # fmt: skip

    def close(self) -> None:
        docker("rm", "-f", "-v", self.name)
        self.sidecar.stop()
        self._short.rmdir()

    def processes(self) -> int:
        return len(docker("top", self.name).strip().splitlines()) - 1


@contextlib.contextmanager
def folders() -> Iterator[Callable[[], Path]]:
    """Makes folders that a container's user can read, as pytest's own can't be; they are gone afterwards."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(f"/tmp/samovar-test-{uuid.uuid4().hex[:8]}-code"))
        made[-1].mkdir()
        return made[-1]

    try:
        yield make
    finally:
        for folder in made:
            shutil.rmtree(folder)


def docker(*arguments: str) -> str:
    found = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout
