"""Named sizes of containers: memory and processors together, under a name that tasks ask for."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from coordinator.wire import Memory


class Machine(BaseModel):
    """Memory in bytes (or "2g") and a number of processors."""

    model_config = ConfigDict(extra="forbid")

    memory: Memory
    cpu: float = Field(gt=0, le=1024)


#: What is there without a word in the policy; an entry of the same name replaces one of these.
BUILT_IN = {
    "micro": Machine(memory=256 * 1024**2, cpu=0.25),
    "small": Machine(memory=512 * 1024**2, cpu=0.5),
    "medium": Machine(memory=2 * 1024**3, cpu=1),
    "large": Machine(memory=8 * 1024**3, cpu=4),
}


def sized(options: dict[str, Any], defined: dict[str, Machine]) -> str | None:
    """Puts a task's `machine` into its memory and cpu, and leaves its name; what is wrong, where something is.

    `options` are as the SDK resolves them: `{"name", "sets": ["memory", "cpu"]}` is what it has for a machine.
    """
    asked = options.get("machine")
    if asked is None:
        return None
    if not isinstance(asked, dict) or not isinstance(asked.get("name"), str):
        return f"{asked!r:.100} is no machine"
    known = {**BUILT_IN, **defined}
    machine = known.get(asked["name"])
    if machine is None:
        near = difflib.get_close_matches(asked["name"], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
        return f"there is no machine {asked['name']!r} on this host: {hint} (policy.toml, [machines.NAME])"
    sets = asked.get("sets")
    for name in ("memory", "cpu"):
        if isinstance(sets, list) and name in sets:
            options[name] = getattr(machine, name)
    options["machine"] = asked["name"]
    return None
