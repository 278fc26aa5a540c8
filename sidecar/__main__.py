"""`python -m sidecar`: every setting is a flag and an environment variable."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # it would look again and again at all that was imported so far: a sixth of the start
    gc.disable()

import os

from pydantic_settings import CliApp

from coordinator.wire.directories import UMASK
from sidecar import logging
from sidecar.server import serve
from sidecar.settings import Settings


def main() -> None:
    gc.freeze()  # what was imported stays
    gc.enable()
    os.umask(UMASK)
    logging.configure()
    serve(CliApp.run(Settings))


if __name__ == "__main__":
    main()
