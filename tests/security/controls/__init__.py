"""The mutants of `make isolation-mutants`, by the part whose control they switch off."""

from __future__ import annotations

from tests.security.controls import builds, clients, containers, egress, files, protocol, reach, secrets
from tests.security.mutant import Mutant

_PARTS = (containers, protocol, egress, builds, clients, reach, secrets, files)

MUTANTS: list[Mutant] = [mutant for part in _PARTS for mutant in part.MUTANTS]
assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
