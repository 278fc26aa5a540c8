"""Celery over a directory as its broker: `python celery_jobs.py DIRECTORY COUNT` → JSON."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery

directory = Path(os.environ.get("BENCH_DIRECTORY") or sys.argv[1])
app = Celery("celery_jobs", broker="filesystem://")
folder = str(directory / "broker")
app.conf.broker_transport_options = {
    "data_folder_in": folder,
    "data_folder_out": folder,
    "control_folder": folder,
    "polling_interval": 0.005,
}
app.conf.task_ignore_result = True
begun = directory / "begun"


@app.task(name="trivial")
def trivial(number):
    file = os.open(begun, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{time.time():<20.6f}\n".encode())
    os.close(file)
    return number + 1


def lines(least):
    deadline = time.time() + 60
    while not begun.exists() or begun.stat().st_size < 21 * least:
        if time.time() > deadline:
            raise SystemExit(f"Celery has not run {least} jobs in a minute")
        time.sleep(0.0005)
    return [float(line) for line in begun.read_text().split()]


def main(count):
    Path(folder).mkdir()
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "-c", "2", "-l", "ERROR"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, "BENCH_DIRECTORY": str(directory), "C_FORCE_ROOT": "1"}
    worker = subprocess.Popen(
        command, cwd=Path(__file__).parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        trivial.delay(0)
        done = len(lines(1))
        start = []
        for number in range(count // 4):
            began = time.time()
            trivial.delay(number)
            done += 1
            start.append(1000 * (lines(done)[-1] - began))
        began = time.time()
        for number in range(count):
            trivial.delay(number)
        last = max(lines(done + count))
        print(json.dumps({"start_ms": start, "per_second": count / (last - began)}))
    finally:
        worker.terminate()
        worker.wait(20)


if __name__ == "__main__":
    main(int(sys.argv[2]))
