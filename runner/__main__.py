"""`python -m runner`: every setting is a flag and an environment variable."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # it would look again and again at all that was imported so far: a sixth of the start
    gc.disable()

import asyncio
import os
import signal
import sys

import uvloop
from pydantic_settings import CliApp

from coordinator.wire.directories import UMASK, private
from runner import logging
from runner.agent import Agent
from runner.docker_engine import DockerEngine
from runner.errors import RunnerError
from runner.policy import Policy
from runner.settings import Settings


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, then drains."""
    policy = Policy.read(settings.policy)
    try:
        private(settings.state)
    except OSError as error:
        raise RunnerError(f"the state directory: {error}") from None
    engine = await asyncio.to_thread(DockerEngine)
    agent = Agent(settings, engine, policy)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, agent.stop)
    await agent.run()
    engine.close()


def main() -> int:
    gc.freeze()  # what was imported stays
    gc.enable()
    os.umask(UMASK)
    logging.configure()
    try:
        uvloop.run(serve(CliApp.run(Settings)))
    except RunnerError as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
