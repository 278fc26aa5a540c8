"""procrastinate, worker and caller in one process: `python procrastinate_jobs.py DATABASE_URL COUNT` → JSON."""

import asyncio
import json
import logging
import sys
import time

import procrastinate

logging.disable(logging.CRITICAL)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1]))
began_at: asyncio.Queue = asyncio.Queue()


@app.task(queue="bench")
async def trivial(number: int) -> int:
    began_at.put_nowait(time.perf_counter())
    return number + 1


async def main(count: int) -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(app.run_worker_async(concurrency=10, install_signal_handlers=False))
        await trivial.defer_async(number=0)
        await began_at.get()
        start = []
        for number in range(count // 4):
            began = time.perf_counter()
            await trivial.defer_async(number=number)
            start.append(1000 * (await began_at.get() - began))
        began = time.perf_counter()
        for number in range(count):
            await trivial.defer_async(number=number)
        for _ in range(count):
            last = await began_at.get()
        print(json.dumps({"start_ms": start, "per_second": count / (last - began)}))
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


asyncio.run(main(int(sys.argv[2])))
