"""What every test may lean on: the base image, and a check that tests leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import stack


@pytest.fixture(scope="session")
def base_image() -> str:
    """The base image of this machine, made on first use and kept."""
    result = subprocess.run(
        [sys.executable, "-m", "images", "base", "--json"], check=True, capture_output=True, text=True, timeout=900
    )
    return str(json.loads(result.stdout)["image"])


def pytest_sessionfinish() -> None:
    if stack.deployed_projects:
        stack.remove_traces()
