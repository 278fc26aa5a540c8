"""Random number generators that modules have made: without a seed given, each run gets numbers of its own.

A fork copies them with their state, so every run would draw the same. Those that the project has seeded itself go
on from where its seed put them, in each run alike, as in any process that has just imported it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from samovar.environment import importing

if TYPE_CHECKING:
    import random

#: `random`, where the project has imported it: a module of its own by that name is none.
_random: Any = None
#: Its generators that were given a seed: a WeakSet then.
_seeded: Any = ()
#: The state of the hidden generator of `random`, where `random.seed(...)` was called: a fork would seed it anew.
_hidden: list[Any] = []
_found: list[Any] = []
#: numpy draws 128 bits where no seed is given.
_DRAWN_BITS = 64


@contextmanager
def watching() -> Iterator[None]:
    """Notes which generators are given seeds meanwhile."""
    undo: list[Callable[[], None]] = []
    importing.when_imported("random", lambda: undo.append(_watch()))
    try:
        yield
    finally:
        importing.forget("random")
        for step in undo:
            step()


def _watch() -> Callable[[], None]:
    """Begins to, now that `random` is there; what ends it."""
    global _random, _seeded
    import random
    import weakref

    if _random is None:
        _random, _seeded = random, weakref.WeakSet()
    plain, of_module = random.Random.seed, random.seed
    hidden: random.Random = random.seed.__self__  # type: ignore[attr-defined]

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        plain(self, a, version)
        if a is None:
            _seeded.discard(self)
        else:
            _seeded.add(self)

    def seed_hidden(a: Any = None, version: int = 2) -> None:
        seed(hidden, a, version)

    def undo() -> None:
        random.Random.seed, random.seed = plain, of_module  # type: ignore[method-assign]

    random.Random.seed, random.seed = seed, seed_hidden  # type: ignore[method-assign]
    return undo


def find() -> list[str]:
    """Remembers the generators there are now; those that can't be seeded anew, in words."""
    numpy_random = sys.modules.get("numpy.random")
    kinds: tuple[Any, ...] = ()
    hidden: Any = None
    if _random is not None:
        hidden, kinds = _random.seed.__self__, (_random.Random,)
    if hidden in _seeded:
        _hidden[:] = [hidden.getstate()]
    if numpy_random is not None:
        kinds += (numpy_random.Generator, numpy_random.RandomState)
    stuck: list[str] = []
    for thing in gc.get_objects() if kinds else ():
        # by its type: an object may run code of its own for isinstance
        if not issubclass(type(thing), kinds) or thing is hidden:
            continue
        if _random is not None and isinstance(thing, _random.Random):
            if isinstance(thing, _random.SystemRandom):
                continue
            if thing not in _seeded:
                _found.append(thing)
        elif not _was_seeded(thing):
            try:
                _fresh(_bits(thing))
                _found.append(thing)
            except Exception as error:
                stuck.append(f"a {type(_bits(thing)).__name__} of numpy ({error})")
    return stuck


def reseed() -> None:
    """In the process of a run: other numbers than those of the run before."""
    for thing in _found:
        if _random is not None and isinstance(thing, _random.Random):
            thing.seed()
        else:
            bits = _bits(thing)
            bits.state = _fresh(bits).state
    if _hidden:
        _random.setstate(_hidden[0])
    torch = sys.modules.get("torch")
    if torch is not None and torch.initial_seed() >= 1 << 32:  # a smaller one was given
        torch.seed()


def _bits(generator: Any) -> Any:
    """The part of a generator of numpy that holds its state."""
    found = getattr(generator, "bit_generator", None)
    return found if found is not None else generator._bit_generator


def _fresh(bits: Any) -> Any:
    return type(bits)()


def _was_seeded(generator: Any) -> bool:
    bits = _bits(generator)
    sequence = getattr(bits, "seed_seq", None) or getattr(bits, "_seed_seq", None)
    entropy = getattr(sequence, "entropy", None)
    return entropy is None or not isinstance(entropy, int) or entropy.bit_length() <= _DRAWN_BITS
