"""No part's log shows a secret that stood in a variable when something failed: on a terminal or off it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

CODE = """
import structlog
{configure}
def work(key):
    header = key + "-in-a-header"
    raise RuntimeError("the reason")
try:
    work("s3cret" + "-key")
except RuntimeError:
    structlog.get_logger().exception("it failed")
"""
CONFIGURE = {
    "coordinator": "from coordinator.foundation import logging; logging.configure('info')",
    "runner": "from runner import logging; logging.configure()",
    "sidecar": "from sidecar import logging; logging.configure()",
}


@pytest.mark.parametrize("part", CONFIGURE)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_a_traceback_shows_no_local_variables(part: str, terminal: bool) -> None:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    code = CODE.format(configure=CONFIGURE[part])
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # how a terminal says that the other end is closed
            break
        if not data:
            break
        said += data
    os.close(ours)
    assert process.wait(30) == 0
    assert b"the reason" in said
    assert b"s3cret-key" not in said
