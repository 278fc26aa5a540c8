"""The mutants of `make isolation-mutants`, by the part whose control they switch off."""

from __future__ import annotations

from tests.security.controls import builds, clients, containers, egress, protocol, reach
from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = [
    *containers.MUTANTS,
    *protocol.MUTANTS,
    *egress.MUTANTS,
    *builds.MUTANTS,
    *clients.MUTANTS,
    *reach.MUTANTS,
]
assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
