"""Archives, base images and builders."""

from __future__ import annotations

from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = []
