"""What the coordinator holds against clients."""

from __future__ import annotations

from tests.security.mutant import Mutant

_SCHEMAS = "tests/unit/coordinator/tasks/test_hostile_schemas.py"

MUTANTS: list[Mutant] = [
    Mutant(
        name="patterns_backtrack",
        off="the weighing of patterns",
        file="coordinator/tasks/patterns.py",
        old="        if sum(totals) > HEAVIEST:",
        new="        if False:",
        tests=(_SCHEMAS,),
    ),
    Mutant(
        name="any_vocabulary",
        off="the refusal of words that the SDK never writes",
        file="coordinator/tasks/vocabulary.py",
        old="        elif (holds := _WORDS.get(word)) is None:",
        new="        elif (holds := _WORDS.get(word, lambda value: True)) is None:",
        tests=(_SCHEMAS,),
    ),
    Mutant(
        name="checks_in_transactions",
        off="that long checks wait for the end of the transaction",
        file="coordinator/foundation/again.py",
        old="    if inside():",
        new="    if False:",
        tests=(_SCHEMAS,),
    ),
]
