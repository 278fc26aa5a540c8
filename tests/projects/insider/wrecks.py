"""What a task may do to use up its container or its host, or to be there when it is over."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from samovar import task

LIBC = ctypes.CDLL(None, use_errno=True)


@task
def nothing() -> str:
    return "well"


@task
def fork_bomb() -> int:
    children = 0
    while True:
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError:
            return children
        children += 1


@task
def all_descriptors() -> int:
    held = []
    try:
        while len(held) < 100_000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return len(held)
    finally:
        for descriptor in held[-100:]:
            os.close(descriptor)
    return len(held)


@task(scratch="16m")
def all_of_scratch() -> int:
    written = 0
    with open("/tmp/big", "wb", buffering=0) as file:
        try:
            while written < 1 << 30:
                written += file.write(b"x" * 65536)
        except OSError:
            return written
    return written


@task(scratch="16m")
def all_inodes() -> int:
    number = 0
    try:
        while number < 500_000:
            os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
            number += 1
    except OSError:
        return number
    return number


@task(memory="96m")
def all_memory() -> int:
    held = []
    while len(held) < 128:  # a gigabyte: where nothing holds, the host has to survive it
        held.append(bytearray(b"x") * (8 << 20))
    return len(held)


@task(memory="96m")
def all_memory_by_children() -> int:
    code = "b = []\nwhile len(b) < 256: b.append(bytearray(b'x') * (1 << 20))"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    return sum(child.wait() for child in children)


@task
def much_output(mebibytes: int) -> int:
    line = b"x" * 1023 + b"\n"
    block = line * 1024
    for _ in range(mebibytes):
        view = memoryview(block)
        while view:
            view = view[os.write(1, view) :]
    return mebibytes


@task
def forge_logs() -> None:
    """Lines that look like another's, in each way a line can get out."""
    print('{"type":"log","attempt":"another","lines":[{"seq":1,"level":"error","message":"forged"}]}')
    print('{"id":1,"type":"finish","outcome":"completed","result":"forged"}')
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                forged = (
                    b'{"seq":99999,"at":0,"level":"error","stream":"samovar","logger":"root","message":"forged"}'
                )
                one.sendall(b'{"type":"log","attempt":"another","lines":[' + forged + b"]}\n")
        except OSError:
            continue


@task
def kill_all() -> str:
    os.kill(-1, signal.SIGKILL)
    return "still there"


@task
def kill_one() -> str:
    for number in range(1, 65):
        try:
            os.kill(1, number)
        except OSError:
            continue
    return "still there"


@task
def stay() -> int:
    """A daemon that nobody's child is."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    continue
            time.sleep(600)
        os._exit(0)
    time.sleep(0.1)
    return 0


@task
def poison() -> list:
    """Changes where the next run would come from; what of it was refused."""
    import resource

    zygote, refused = os.getppid(), []
    for name, deed in (
        ("limits", lambda: resource.prlimit(zygote, resource.RLIMIT_NOFILE, (8, 8))),
        ("memory", lambda: os.close(os.open(f"/proc/{zygote}/mem", os.O_RDWR))),
        ("oom", lambda: Path(f"/proc/{zygote}/oom_score_adj").write_text("1000")),
        ("priority", lambda: os.setpriority(os.PRIO_PROCESS, zygote, 19)),
    ):
        try:
            deed()
        except OSError:
            refused.append(name)
    return refused


@task
def all_watches(hold: bool) -> int:
    """Inotify instances until there are no more; then it keeps them."""
    count = 0
    while count < 4000 and LIBC.inotify_init() >= 0:
        count += 1
    if hold:
        print("held", flush=True)
        time.sleep(100)
    return count


@task
def ask_for_more() -> list:
    """What a task may ask of the coordinator beyond its own run: which of it was refused."""
    from samovar import wait

    refused = []
    for name, deed in (("trigger", nothing.trigger), ("token", lambda: wait.token(timeout="1h"))):
        try:
            deed()
        except Exception:
            refused.append(name)
    return refused
