"""`python -m tests.security.fuzz [NAME…]`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from tests.security.fuzz import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security.fuzz", description="Tries made-up input.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(sorted(TARGETS))} (default: all)")
    names = parser.parse_args().names or sorted(TARGETS)
    if unknown := set(names) - set(TARGETS):
        raise SystemExit(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(sorted(TARGETS))}")
    seconds = float(os.environ.get("SAMOVAR_FUZZ_SECONDS") or 600)
    for name in names:
        print(f"{name}: {seconds:g} s", flush=True)
        print(f"{name}: {importlib.import_module(TARGETS[name]).fuzz(seconds)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
