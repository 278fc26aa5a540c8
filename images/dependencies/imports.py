"""The files in a virtual environment that make the deployed code known there, as an editable installation would."""

from __future__ import annotations

import re

from samovar.wire import IMAGE_CODE

from images.dependencies.plan import Plan


def site_files(plan: Plan, python: str) -> dict[str, bytes]:
    """By path in the environment of Python `python` ("3.11.2"): a .pth file, and the project's own metadata."""
    site = f"lib/python{'.'.join(python.split('.')[:2])}/site-packages"
    files: dict[str, bytes] = {}
    if plan.paths:
        lines = [f"{IMAGE_CODE}/{path}\n" for path in plan.paths]
        files[f"{site}/samovar-project.pth"] = "".join(lines).encode()
    if plan.project is not None:
        # so that `importlib.metadata.version("orders")` answers, as where the project is installed
        name, version = plan.project
        folder = f"{site}/{re.sub('[-_.]+', '_', name)}-{version}.dist-info"
        files[f"{folder}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        files[f"{folder}/INSTALLER"] = b"samovar\n"
    return files
