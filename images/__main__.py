"""`python -m images base`: make sure that this host has the base image that projects are built on."""

from __future__ import annotations

import argparse
import json
import sys

from images.base import bootstrapped, default_base
from images.docker_builder import Builder
from images.errors import BuildError
from images.settings import ImageSettings


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when the base image is there, 2 when it cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    base = commands.add_parser("base", help="pull the default base image, or make it from Debian packages")
    base.add_argument("--rebuild", action="store_true", help="anew, even where it is there")
    base.add_argument("--bootstrap", action="store_true", help="from Debian packages, whatever a registry has")
    base.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args(arguments)

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    settings = ImageSettings()
    try:
        with Builder() as builder:
            if options.bootstrap:
                found = bootstrapped(builder, settings, log, rebuild=options.rebuild)
            else:
                found = default_base(builder, settings, log, rebuild=options.rebuild)
    except BuildError as error:
        if options.json:
            print(json.dumps({"error": error.problem.model_dump()}))
        else:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"image": found.name, "id": found.id, "python": found.python}))
    else:
        print(f"{found.name}: Python {found.python}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
