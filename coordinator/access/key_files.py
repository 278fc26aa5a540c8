"""The admin's key in a file, for installs whose parts share volumes and not environments."""

from __future__ import annotations

import secrets
from pathlib import Path

from coordinator.foundation import files


def read(file: Path) -> str:
    """The key in `file`; where there is none yet, one is made, mode 0600. Two that start at once agree on one."""
    if not file.exists():
        files.make_once(file, f"sk_{secrets.token_urlsafe(32)}\n".encode())
    return file.read_text("utf-8").strip()
