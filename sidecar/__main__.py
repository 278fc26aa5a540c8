"""`python -m sidecar`: every setting is a flag and an environment variable."""

from __future__ import annotations

import os

from pydantic_settings import CliApp

from coordinator.wire.directories import UMASK
from sidecar import logging
from sidecar.server import serve
from sidecar.settings import Settings


def main() -> None:
    os.umask(UMASK)
    logging.configure()
    serve(CliApp.run(Settings))


if __name__ == "__main__":
    main()
