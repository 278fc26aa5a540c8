"""`python -m sidecar`: every setting is a flag and an environment variable."""

from __future__ import annotations

from pydantic_settings import CliApp

from sidecar import logging
from sidecar.server import serve
from sidecar.settings import Settings


def main() -> None:
    logging.configure()
    serve(CliApp.run(Settings))


if __name__ == "__main__":
    main()
