"""The command `samovar` for tests that run it some hundred times: each a process of its own, and a fork.

Starting Python and importing takes a command several times as long as all that it does. So one process for each
worker of the suite imports what commands import, and forks one for each call: with its own arguments, environment,
folder and streams, through the entry point that `samovar` has, to the end of the interpreter. What a start itself
has to show (encodings, terminals, signals, what is imported) is tested on commands started anew, as are the
tutorial's and those of the main path.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def samovar(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """`samovar ARGUMENTS...` as `subprocess.run` would, with nothing on standard input where `stdin` is None.

    Raises subprocess.TimeoutExpired after `timeout` seconds; the command is killed then.
    """
    asked = {
        "arguments": list(arguments),
        "environment": dict(os.environ if environment is None else environment),
        "cwd": str(cwd or Path.cwd()),
    }
    with (
        socket.socket(socket.AF_UNIX) as connection,
        tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err,
    ):  # fmt: skip
        given.write((stdin or "").encode())
        given.seek(0)
        connection.connect(_forks())
        socket.send_fds(connection, [b"x"], [given.fileno(), out.fileno(), err.fileno()])
        answers = connection.makefile("rw")
        answers.write(json.dumps(asked) + "\n")
        answers.flush()
        pid = int(answers.readline())
        if not select.select([connection], [], [], timeout)[0]:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        code = int(answers.readline())
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(["samovar", *arguments], code, *texts)


@functools.cache
def _forks() -> str:
    """The address of this process's own server; it ends with this process, however that ends."""
    directory = tempfile.mkdtemp(prefix="samovar-commands-")
    path = f"{directory}/socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.commands", path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
    )  # fmt: skip

    def end() -> None:
        server.communicate()

    atexit.register(end)
    assert server.stdout is not None, "a pipe was asked for"
    assert server.stdout.readline() == b"ready\n"
    return path


def _serve(path: str) -> None:
    """Forks a command for each connection, until standard input ends."""
    from samovar.cli.commands import application
    from samovar.cli.main import main

    # everything that commands import; and one executed, for what is imported on the way
    application()
    sys.argv = ["samovar", "--data", str(Path(path).parent), "runs", "list"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        main()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        # nobody waits for those who wait for commands
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready", flush=True)
        awaited: list[socket.socket | int] = [listener, 0]
        while listener in select.select(awaited, [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if not os.fork():
                    listener.close()
                    _attend(connection)
                    return
    Path(path).unlink()
    Path(path).parent.rmdir()


def _attend(connection: socket.socket) -> None:
    """Becomes the command that was asked for, or tells of its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    answers = connection.makefile("rw")
    asked = json.loads(answers.readline())
    pid = os.fork()
    if pid:
        answers.write(f"{pid}\n")
        answers.flush()
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        answers.flush()
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["samovar", *asked["arguments"]]
    from samovar.cli.main import main

    main()


if __name__ == "__main__":
    _serve(sys.argv[1])
