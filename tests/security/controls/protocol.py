"""What the sidecar holds against a hostile process 1."""

from __future__ import annotations

from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = []
