"""What building takes besides the package itself, fetched before it is missed.

A builder without a network that misses a package ends, and begins again when that is there: some seconds each time.
What a directory's build backend is made of stands written in its pyproject.toml, and what has no such file is built
by setuptools. Only a hint: what is not to be had is left out, and what is missing all the same is missed as before.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from images.dependencies.pyproject import document_of, has
from images.dependencies.tables import table, texts
from images.dependencies.tree import Tree
from images.errors import ConfigError
from images.stock import Stock, named
from images.workshop import LENT

#: What a package is built with that does not say (PEP 517, as pip has it).
LEGACY = ("setuptools>=40.8.0", "wheel")
_MOST = 20


def declared(trees: Mapping[str, Path]) -> list[str]:
    """What the build backends of directories are made of, as name, extras and versions."""
    found: dict[str, None] = {}
    for path in trees.values():
        tree = Tree(path)
        try:
            document = document_of(tree, ".")
        except ConfigError:
            continue
        system = table(document, "build-system")
        if "requires" in system:
            # one with a marker may be for another platform, and then nowhere to be had for this
            lines = [line for line in texts(system["requires"]) if ";" not in line]
            found |= dict.fromkeys(filter(None, map(named, lines)))
        elif document or has(tree, ".", "setup.py"):
            found |= dict.fromkeys(LEGACY)
    return list(found)[:_MOST]


def run_ahead(stock: Stock, wanted: Iterable[str]) -> list[str]:
    """The runs of fetch.py that fetch `wanted`: none where this build has asked for all of it."""
    new = [requirement for requirement in wanted if requirement not in stock.ahead]
    stock.ahead.update(new)
    return [f"ahead {LENT}/house --find-links {LENT}/built {' '.join(map(shlex.quote, new))}"] if new else []
