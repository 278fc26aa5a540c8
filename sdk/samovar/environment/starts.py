"""How a run begins: forked from a process that has imported the project, or in an interpreter of its own."""

from __future__ import annotations

FORK, FRESH, AUTO = "fork", "fresh", "auto"


def fresh_notice(culprits: list[str]) -> str:
    """Why runs start in interpreters of their own, and what to do about it."""
    named = "; ".join(culprits[:5]) + (f"; and {len(culprits) - 5} more" if len(culprits) > 5 else "")
    return (
        f"importing the project leaves {named}: a run forked from that would lack it, or "
        "would share it with others, so each run starts a Python of its own and imports the project anew. Make "
        "such things inside of tasks where the time of an import matters; "
        '@task(start="fork") forks in any case, and start="fresh" says that this is meant'
    )


def generator_notice(stuck: str) -> str:
    """For a generator that can't be given other numbers for each run."""
    return (
        f"{stuck} is made when the project is imported, and can't be seeded anew for each run: runs may draw the "
        'same numbers; make it inside of tasks, or say @task(start="fresh")'
    )
