"""What a runner has to remember across its own death: its id, which attempt each container runs, and which images
it has built.

No secret is kept: the attempt's token and secret come from the coordinator again.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Record:
    """`deadline`: wall-clock time at which the attempt times out, once its user code has started; `allowed`: the
    seconds of running that it was reckoned with.
    """

    attempt: str
    deadline: float | None = None
    allowed: float | None = None


class Records:
    """Small files, written without fsync: what ends with the host ends a container too."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._directory = state / "containers"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._images = state / "images"
        self._images.mkdir(exist_ok=True, mode=0o700)

    def runner_id(self) -> str:
        """This runner's id, made once."""
        path = self._state / "runner-id"
        if not path.exists():
            _write(path, f"r-{uuid.uuid4().hex[:12]}")
        return path.read_text("utf-8").strip()

    def save(self, container: str, record: Record) -> None:
        _write(self._directory / f"{container}.json", json.dumps(asdict(record)))

    def load(self, container: str) -> Record | None:
        try:
            return Record(**json.loads((self._directory / f"{container}.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def forget(self, container: str) -> None:
        (self._directory / f"{container}.json").unlink(missing_ok=True)

    def forget_all_but(self, containers: set[str]) -> None:
        for path in self._directory.glob("*.json"):
            if path.stem not in containers:
                path.unlink(missing_ok=True)

    def save_image(self, image: str) -> None:
        """This runner has built `image`, or found that it had it: another install's it never removes."""
        _write(self._image(image), image)

    def images(self) -> list[str]:
        return sorted(path.read_text("utf-8") for path in self._images.glob("*.image"))

    def forget_image(self, image: str) -> None:
        self._image(image).unlink(missing_ok=True)

    def _image(self, image: str) -> Path:
        return self._images / f"{hashlib.sha256(image.encode()).hexdigest()[:32]}.image"


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, "utf-8")
    os.replace(new, path)
