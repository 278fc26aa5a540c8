"""DBOS: `python dbos_steps.py DATABASE_URL COUNT` → JSON with milliseconds of steps and workflows per second."""

import json
import sys
import time

from dbos import DBOS

url, count = sys.argv[1], int(sys.argv[2])
DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})


@DBOS.step()
def step(number):
    return number


@DBOS.workflow()
def steps(count):
    took = []
    for number in range(count):
        began = time.perf_counter()
        step(number)
        took.append(1000 * (time.perf_counter() - began))
    return took


@DBOS.workflow()
def trivial(number):
    return number + 1


DBOS.launch()
steps(10)
took = steps(count)
began = time.perf_counter()
for handle in [DBOS.start_workflow(trivial, number) for number in range(count)]:
    handle.get_result()
rate = count / (time.perf_counter() - began)
print(json.dumps({"step_ms": took, "per_second": rate}))
DBOS.destroy()
