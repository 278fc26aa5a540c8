"""No part's log shows a secret that stood in a variable when something failed, or acts on a terminal."""

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
    raise RuntimeError("the reason \\x1b]52;c;aGk=\\x07")
try:
    work("s3cret" + "-key")
except RuntimeError:
    structlog.get_logger().exception("it \\x1b[2Jfailed", told="\\u202egnp \\x9b31m \\r forged")
"""
CONFIGURE = {
    "coordinator": "from coordinator.foundation import logging; logging.configure('info')",
    "runner": "from runner import logging; logging.configure()",
    "sidecar": "from sidecar import logging; logging.configure()",
}


@pytest.mark.parametrize("part", CONFIGURE)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_a_traceback_shows_no_local_variables_and_nothing_that_acts(part: str, terminal: bool) -> None:
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
    shown = said.decode().replace("\r\n", "\n")
    assert not set(shown) & set("\x1b\x07\r\x9b\u202e"), shown
