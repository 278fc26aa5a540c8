"""compose.yaml as a text: what every service has to say, in the form that both Compose programs take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "compose.yaml"


def services() -> dict[str, str]:
    """Each service's lines, by its name."""
    text = FILE.read_text("utf-8").partition("\nservices:\n")[2].partition("\nnetworks:\n")[0]
    parts = re.split(r"^  (\w+):\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_services_are_found() -> None:
    assert {"postgres", "coordinator", "sidecar", "runner"} <= set(services())


def test_the_fleet_has_a_listener_that_is_not_published() -> None:
    found = services()
    assert re.search(r"FLEET_LISTEN: 0\.0\.0\.0:7421$", found["coordinator"], re.MULTILINE)
    published = found["coordinator"].partition("    ports:")[2]
    assert re.findall(r"^      - .*:(\d+)\"$", published, re.MULTILINE) == ["7420"]
    for service in ("sidecar", "runner"):
        assert re.search(r"_COORDINATOR_URL: http://coordinator:7421$", found[service], re.MULTILINE), service


@pytest.mark.parametrize("service", sorted(services()))
def test_every_service_is_limited(service: str) -> None:
    text = services()[service]
    for limit in (r"mem_limit: \S+", r"pids_limit: \d+", r"(cpus|cpu_shares): \d+"):
        assert re.search(rf"^    {limit}$", text, re.MULTILINE), f"{service} has no {limit}"
    # read by the plugin alone, and by the older program only with a flag
    assert "deploy:" not in text
