"""What helper processes may take: each kind is held to its limits by the operating system."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from coordinator import confined
from coordinator.confined import Confines

_SAY = """
import json, resource, sys
from coordinator import confined
getattr(confined, sys.argv[1]).enter()
names = ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE")
print(json.dumps({name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}))
"""


@pytest.mark.parametrize("kind", ["UPLOADS", "PAYLOADS", "PROJECTS"])
def test_a_process_is_held_to_what_stands_there(kind: str) -> None:
    here = {name: list(resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))) for name in ("CPU", "NOFILE")}
    done = subprocess.run([sys.executable, "-c", _SAY, kind], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    limits: Confines = getattr(confined, kind)
    assert found["AS"] == [limits.memory] * 2
    assert found["CORE"] == [0, 0]
    assert found["CPU"] == ([limits.processor] * 2 if limits.processor is not None else here["CPU"])
    assert found["NOFILE"] == ([limits.descriptors] * 2 if limits.descriptors is not None else here["NOFILE"])
    for name, most in (("FSIZE", limits.file), ("NPROC", limits.processes)):
        assert most is None or found[name] == [most] * 2


def test_what_is_spent_is_counted_from_where_it_is() -> None:
    code = "from coordinator import confined\nfor _ in range(3): confined.spend(1)\nwhile True: pass\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode < 0
