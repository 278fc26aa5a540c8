"""Small files of the system, such as those of /proc and of a cgroup."""

from __future__ import annotations


def read_text(path: str) -> str:
    """What stands in a file; empty where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
