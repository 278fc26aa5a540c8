"""Long tries with made-up input: `python -m tests.security.fuzz NAME`, or `make fuzz` for all of them, one by one.

Each module named in TARGETS has a function `fuzz(seconds)`, which raises AssertionError where something broke.
SAMOVAR_FUZZ_SECONDS says how long each goes on (600).
"""

from __future__ import annotations

#: Name → module.
TARGETS = {"protocol": "tests.security.fuzz.protocol", "egress": "tests.security.fuzz.egress"}
