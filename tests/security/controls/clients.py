"""What the coordinator holds against clients."""

from __future__ import annotations

from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = []
