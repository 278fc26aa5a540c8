"""Packages on their way into an image: fetched by a builder that has a network, missed by one that has none."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from packaging.utils import canonicalize_name

from images.ahead import LEGACY, declared, run_ahead
from images.container import Container
from images.dependencies import Plan
from images.dependencies.findings import Library
from images.errors import InstallError
from images.install import (
    MADE,
    WORK,
    fetch_script,
    wheel_script,
)
from images.stock import Missed, Stock, name_of_line, plan_lines, supplied, without
from images.way import HOST_REFUSED
from images.workshop import LENT, Workshop, give, ran

_FETCH = Path(__file__).with_name("fetch.py")
#: Sources that are built because something fetched needs them.
_MOST_SOURCES = 60


def fetched(shop: Workshop, image: str, plan: Plan) -> dict[str, bytes]:
    """Fetch what the steps of `plan` ask for into the stock; gives the files to install from, without a network."""
    lines = plan_lines(plan)
    files = dict(plan.files)
    names = dict.fromkeys(lines, f"{LENT}/house")
    number = 0
    for asked in lines.values():
        for line in asked.direct:
            _fetch_one(shop, image, plan, f"direct-{number}", {**files, "one.txt": f"{line}\n".encode()})
            number += 1
        for source in asked.sources:
            # of the versions that are asked for, where they are
            named = [line for line in asked.online if name_of_line(line) == canonicalize_name(source)]
            for line in named or [source]:
                one = {**files, "one.txt": f"{line}\n".encode()}
                # what has wheels as well is mostly older than pyproject.toml, or built as if it were
                _fetch_one(shop, image, plan, "", one, more=run_ahead(shop.stock, LEGACY))
    #: Packages that are only published as sources, and named with their hashes: no wheel of ours would have those.
    hashed: set[str] = set()

    def wheels() -> None:
        runs: list[str] = []
        sent = dict(files)
        for step in plan.steps:
            online = without(
                lines[step.file].online, hashed | set(map(canonicalize_name, lines[step.file].sources))
            )
            if all(line.startswith("-") for line in online):
                continue
            sent[f"online-{step.file}"] = _text(online)
            constrained = "constraints.txt" in plan.files and not step.no_deps
            options = (" --no-deps" if step.no_deps else "") + (" -c constraints.txt" if constrained else "")
            asked = f"-r online-{step.file}"
            if plan.system:
                # what the base or apt has need not be published anywhere
                runs.append(f"missing {WORK}/missing.txt{options} {asked}")
                options, asked = " --no-deps", f"-r {WORK}/missing.txt"
            runs.append(f"wheels {names[step.file]}{options} --find-links {LENT}/built {asked}")
        if runs:
            _fetch(shop, image, plan, runs, sent)

    def get(requirement: str, error: InstallError) -> None:
        name = name_of_line(requirement)
        pinned = [line for asked in lines.values() for line in asked.online if name_of_line(line) == name]
        if pinned and "--hash" in pinned[0]:
            hashed.add(name)
            _fetch_one(shop, image, plan, "", {**files, "one.txt": f"{pinned[0]}\n".encode()}, error)
        else:
            fetch_source(shop, image, plan, requirement, error)

    supplied(shop.stock, get, wheels)
    for name, asked in lines.items():
        files[name] = _text([_offline(shop.stock, line) for line in asked.offline])
    return files


def _offline(stock: Stock, line: str | tuple[int, str, str]) -> str:
    if isinstance(line, str):
        return line
    number, name, rest = line
    file = stock.fetched(f"direct-{number}")
    if file is None:
        raise InstallError("what a URL of the requirements gives is neither a wheel nor a source archive")
    return f"{name}file://{LENT}/house/direct-{number}/{file}{rest}"


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _fetch_one(
    shop: Workshop,
    image: str,
    plan: Plan,
    directory: str,
    files: dict[str, bytes],
    error: InstallError | None = None,
    more: Sequence[str] = (),
) -> None:
    """Fetch what `one.txt` of `files` asks for, as it is published, and what the runs `more` fetch."""
    house = shop.stock.house / directory
    if not house.exists():
        house.mkdir()
        give(house)
    try:
        _fetch(shop, image, plan, [f"source {LENT}/house/{directory} -r one.txt", *more], files)
    except Missed as missed:
        raise (error or missed.error) from None


def fetch_source(shop: Workshop, image: str, plan: Plan, requirement: str, error: InstallError) -> None:
    """Fetch a source archive, and build its wheel without a network."""
    before = {path.name for path in shop.stock.house.iterdir()}
    _fetch_one(shop, image, plan, "", {"one.txt": f"{requirement}\n".encode()}, error)
    for source in sorted(path.name for path in shop.stock.house.iterdir() if path.name not in before):
        if source.endswith(".whl"):
            continue
        shop.log(f"building {source}")
        files = {"install.sh": wheel_script(source, LENT).encode()}
        with (
            worked(shop, image, files, {}, plan) as (_, container, _seconds),
            container.copy_out(MADE, shop.settings.build_disk) as made,
            tarfile.open(fileobj=made, mode="r|") as archive,
        ):
            shop.stock.take_built(archive)


def _get(shop: Workshop, image: str, plan: Plan) -> Callable[[str, InstallError], None]:
    """Fetches what a builder without a network missed: a wheel, or else the source."""

    def get(requirement: str, error: InstallError) -> None:
        runs = [f"wheels {LENT}/house --find-links {LENT}/built {shlex.quote(requirement)}"]
        for _ in range(_MOST_SOURCES):
            try:
                return _fetch(shop, image, plan, runs, {})
            except Missed as missed:
                if missed.error.problem.code == HOST_REFUSED:
                    error = missed.error
                if missed.requirement in shop.stock.sourced:
                    break
                shop.stock.sourced.add(missed.requirement)
                fetch_source(shop, image, plan, missed.requirement, error)
        raise error

    return get


def _fetch(shop: Workshop, image: str, plan: Plan, runs: list[str], files: dict[str, bytes]) -> None:
    network = shop.network()
    sent = {**files, "fetch.py": _FETCH.read_bytes(), "install.sh": fetch_script(runs, LENT, network).encode()}
    with ran(shop, image, sent, plan.trees if files else {}, plan, network=network):
        pass


@contextmanager
def worked(
    shop: Workshop,
    image: str,
    files: dict[str, bytes],
    trees: dict[str, Path],
    plan: Plan,
    *,
    hear: list[str] | None = None,
    asked: Sequence[Library] = (),
) -> Iterator[tuple[dict[str, bytes], Container, float]]:
    """`ran` without a network, again each time that it misses a package, which is fetched.

    What the directories of `trees` say that they are built with is fetched before.
    """
    if runs := run_ahead(shop.stock, declared(trees)):
        _fetch(shop, image, plan, runs, {})

    def work() -> tuple[ExitStack, tuple[dict[str, bytes], Container, float]]:
        if hear is not None:
            hear.clear()
        with ExitStack() as open_until_here:
            result = open_until_here.enter_context(ran(shop, image, files, trees, plan, hear=hear, asked=asked))
            return open_until_here.pop_all(), result

    stack, result = supplied(shop.stock, _get(shop, image, plan), work)
    with stack:
        yield result
