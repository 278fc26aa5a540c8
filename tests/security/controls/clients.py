"""What the coordinator holds against clients."""

from __future__ import annotations

from tests.security.mutant import Mutant

_SCHEMAS = "tests/unit/coordinator/tasks/test_hostile_schemas.py"

_BUDGETS = "tests/unit/coordinator/api/test_budgets.py"

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
    Mutant(
        name="bodies_uncounted",
        off="the count of a body's values",
        file="coordinator/foundation/limits.py",
        old="MAX_BODY_NODES = 500_000",
        new="MAX_BODY_NODES = 500_000_000",
        tests=(_BUDGETS,),
    ),
    Mutant(
        name="lines_without_a_share",
        off="the share of one line of the database's threads",
        file="coordinator/foundation/turns.py",
        old="if line != OWN and self._busy.get(line, 0) < self._share:",
        new="if line != OWN:",
        tests=(_BUDGETS,),
    ),
    Mutant(
        name="polls_uncapped",
        off="the cap of a key's long polls",
        file="coordinator/api/budgets.py",
        old="if poll and flying.polls >= limits.polls:",
        new="if False:",
        tests=(_BUDGETS,),
    ),
    Mutant(
        name="times_unclamped",
        off="the bounds of a time that is shown",
        file="coordinator/runs/views.py",
        old="seconds = seconds if 0 <= seconds <= MAX_MOMENT else 0 if seconds < 0 else MAX_MOMENT",
        new="pass",
        tests=("tests/unit/coordinator/test_wire_bounds.py",),
    ),
]
