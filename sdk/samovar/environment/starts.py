"""How a run begins: forked from a process that has imported the project, or in an interpreter of its own."""

from __future__ import annotations

from typing import Any

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


def unkept_notice(carried: list[str]) -> str:
    """Why a container is not used again although its run has ended well, and what to do about it."""
    named = "; ".join(carried[:5]) + (f"; and {len(carried) - 5} more" if len(carried) > 5 else "")
    return (
        f'start="fork" forks runs from a process in which imports have left {named}: what one run writes there the '
        "next one would find, so a container is not used again after a run. Make such things inside of tasks, or "
        "leave start as it is, where the time of a container's start matters; @task(share_imports=True), on every "
        "task that is forked, says that runs may share them"
    )


def unshared(options: list[dict[str, Any]]) -> bool:
    """Whether tasks are forked in any case, and not all of those say that their runs may share what is imported."""
    return any(given.get("start") == FORK and not given.get("share_imports") for given in options)


def generator_notice(stuck: str) -> str:
    """For a generator that can't be given other numbers for each run."""
    return (
        f"{stuck} is made when the project is imported, and can't be seeded anew for each run: runs may draw the "
        'same numbers; make it inside of tasks, or say @task(start="fresh")'
    )
