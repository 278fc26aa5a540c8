"""Keys that live in files, for installs whose parts share volumes and not environments."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from coordinator.foundation import files

_PREFIXES = {"admin": "sk", "runner": "rk"}


def read(file: Path, role: Literal["admin", "runner"]) -> str:
    """The key in `file`; where there is none yet, one is made, mode 0600. Two that start at once agree on one."""
    if not file.exists():
        files.make_once(file, f"{_PREFIXES[role]}_{secrets.token_urlsafe(32)}\n".encode())
    return file.read_text("utf-8").strip()
