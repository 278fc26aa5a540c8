"""The image that a project's is built on: one the project names, Python's official one, or one made here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from cachetools import LRUCache

from images import bootstrap, names
from images.allowed import Reference, allowed_base, listed, reference
from images.box import Box
from images.config import ProjectTable
from images.container import NotStarted
from images.dependencies import Target
from images.docker_builder import Builder
from images.errors import BaseError
from images.known import Known
from images.lines import Log
from images.locks import hold
from images.settings import DEFAULT_PYTHON, ImageSettings

#: Registries that did not answer: said once in a process, they are not asked again for every build.
_no_registry: set[str] = set()
_usable: LRUCache[str, Base] = LRUCache(maxsize=64)

#: Bytes that the probe may print.
_MOST_SAID = 256 * 1024

_PROBE = """
import json, os, platform, shutil, site, sys
found = {"python": "%d.%d.%d" % sys.version_info[:3]}
try:
    import venv
    found["venv"] = True
except ImportError:
    found["venv"] = False
try:
    import pip
    found["pip"] = pip.__version__
except ImportError:
    found["pip"] = None
version = "%d.%d.%d" % sys.implementation.version[:3]
found["environment"] = {
    "implementation_name": sys.implementation.name,
    "implementation_version": version,
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": platform.release(),
    "platform_system": platform.system(),
    "platform_version": platform.version(),
    "python_full_version": platform.python_version(),
    "python_version": "%d.%d" % sys.version_info[:2],
    "sys_platform": sys.platform,
}
found["git"] = shutil.which("git") is not None
found["debian"] = "/usr/lib/python3/dist-packages" in site.getsitepackages()
from importlib.metadata import distributions
ours = {"pip", "setuptools", "wheel", "packaging", "none"}
found["brings"] = sorted({str(d.metadata["Name"]).lower() for d in distributions()} - ours)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Base:
    """A base image that was looked into: it has Python, pip and venv."""

    name: str
    id: str
    python: str
    #: The variables of requirements' markers.
    environment: dict[str, str] = field(default_factory=dict)
    git: bool = True
    #: Whether python3 is Debian's own, which sees what apt's python3-* packages install.
    debian: bool = False
    #: Distributions in it beside pip and its like.
    brings: tuple[str, ...] = ()

    def target(self, project: ProjectTable) -> Target:
        """What the packages of `project` are installed for."""
        # only who names a base means what is in it; the usual ones differ from host to host
        brings = self.brings if project.base is not None else ()
        return Target(self.environment, True, self.git, self.debian, brings, tuple(project.apt))


def base_image(
    builder: Builder, project: ProjectTable, settings: ImageSettings, log: Log, known: Known | None = None
) -> Base:
    """The base for `project`, fetched or made where need be. Raises BaseError saying what would help.

    What was found in an image once is kept in `known`.
    """
    if project.base is not None:
        return _named(builder, project, settings, log, known)
    wanted = project.python or DEFAULT_PYTHON
    official = f"python:{wanted}-slim"
    # what nobody names is on the list as well
    on_list = listed(reference(official), settings.bases)
    if on_list and (identifier := builder.image_id(_whole(official))) is not None:
        return _check(builder, official, identifier, wanted, settings, known)
    # made here once, it is there without asking anybody
    if wanted == bootstrap.PYTHON and (identifier := builder.image_id(bootstrap.IMAGE)) is not None:
        return _check(builder, bootstrap.IMAGE, identifier, wanted, settings, known)
    with hold(f"base-{official}"):
        if on_list and (identifier := _pull(builder, reference(official), settings, log)):
            return _check(builder, official, identifier, wanted, settings, known)
    if project.python not in {None, bootstrap.PYTHON}:
        raise BaseError(
            f"Python {wanted} was asked for; no registry answers to pull {official} from, and the base made from "
            f'Debian packages has {bootstrap.PYTHON}. Set python = "{bootstrap.PYTHON}", or load {official} into '
            f'this host\'s Docker (docker load), or name an image that is there with base = "…"',
            fields={"project.python": f"{wanted!r} is not to be had here"},
        )
    return bootstrapped(builder, settings, log)


def default_base(builder: Builder, settings: ImageSettings, log: Log, *, rebuild: bool = False) -> Base:
    """The base of projects that name none; `rebuild` fetches or makes it anew."""
    official = f"python:{DEFAULT_PYTHON}-slim"
    if rebuild and (identifier := _pull(builder, reference(official), settings, log)):
        return _check(builder, official, identifier, DEFAULT_PYTHON, settings)
    if rebuild and builder.image_id(_whole(official)) is None:
        return bootstrapped(builder, settings, log, rebuild=True)
    return base_image(builder, ProjectTable(name="base", tasks=["base"]), settings, log)


def bootstrapped(builder: Builder, settings: ImageSettings, log: Log, *, rebuild: bool = False) -> Base:
    """The base made from Debian packages, made now where it is not there or `rebuild` is true."""
    with hold(f"base-{bootstrap.IMAGE}"):
        if rebuild or builder.image_id(bootstrap.IMAGE) is None:
            archive_labels = names.labels("base", "base", settings.labels)
            bootstrap.make(builder, labels=archive_labels, log=log)
        identifier = builder.image_id(bootstrap.IMAGE)
        if identifier is None:
            raise BaseError(f"the base image {bootstrap.IMAGE!r} has gone from this host's Docker")
        return _check(builder, bootstrap.IMAGE, identifier, bootstrap.PYTHON, settings)


def _named(builder: Builder, project: ProjectTable, settings: ImageSettings, log: Log, known: Known | None) -> Base:
    assert project.base is not None, "called for a named base"
    # before the engine is asked anything: what is refused is nobody's to learn about
    asked = allowed_base(project.base, settings.bases)
    identifier = builder.image_id(asked.name)
    if identifier is None:
        with hold(f"base-{names.digest([asked.name])}"):
            identifier = builder.image_id(asked.name) or _pull(builder, asked, settings, log)
    if identifier is None:
        raise BaseError(
            f"the base image {project.base!r} is not in this host's Docker and no registry answers",
            fields={"project.base": f"{project.base!r} is not there: docker pull or docker load it first"},
        )
    kind = builder.labels_of(identifier).get(names.LABEL_KIND, "base")
    if kind != "base":
        text = f"{project.base!r} is an image that a build has made ({kind}), and no base"
        raise BaseError(f"the base image {text}", code="base_not_allowed", fields={"project.base": text})
    return _check(builder, project.base, identifier, project.python, settings, known)


def _whole(name: str) -> str:
    return reference(name).name


def _pull(builder: Builder, asked: Reference, settings: ImageSettings, log: Log) -> str | None:
    """The id of the image `asked`, as it was pulled now; None where its registry does not answer."""
    if settings.offline or asked.registry in _no_registry:
        return None
    log(f"pulling {asked.name}")
    identifier = builder.pull(
        asked, timeout=settings.registry_timeout, most=settings.base_size, within=settings.pull_timeout, log=log
    )
    if identifier is None:
        _no_registry.add(asked.registry)
        log("no registry answers")
    return identifier


def _check(
    builder: Builder,
    name: str,
    identifier: str,
    python: str | None,
    settings: ImageSettings,
    known: Known | None = None,
) -> Base:
    size = builder.size_of(identifier)
    if size > settings.base_size:
        text = f"{name!r} is of {size // 1024**2} MiB, and a base may have {settings.base_size // 1024**2} MiB"
        raise BaseError(
            f"the base image {text}; take a smaller one, as a -slim tag is, or ask the operator for more: "
            "policy.toml, [images] base_size",
            code="base_too_large",
            fields={"project.base": text},
        )
    base = _usable.get(identifier) or _look_into(builder, name, identifier, settings, known)
    _usable[identifier] = base
    if python is not None and not base.python.startswith(f"{python}."):
        raise BaseError(
            f"the base image {name!r} has Python {base.python}, and samovar.toml asks for {python}",
            fields={"project.python": f"{python!r} is not what {name!r} has; take one of the two out"},
        )
    return replace(base, name=name)


def _look_into(builder: Builder, name: str, identifier: str, settings: ImageSettings, known: Known | None) -> Base:
    if known is not None and (kept := known.get("base", identifier, _PROBE)) is not None:
        return _base(name, identifier, json.loads(kept))
    box = Box(
        image=identifier,
        command=["python3", "-I", "-c", _PROBE],
        labels=names.labels("base", "builder", settings.labels),
        memory=settings.index_memory,
        pids=settings.index_pids,
        timeout=settings.index_timeout,
        read_only=True,
        tmpfs={"/tmp": "rw,nosuid,nodev,size=16m,nr_inodes=1k,mode=1777"},
        seccomp=settings.seccomp,
        output=_MOST_SAID,
        disk=None,
    )
    lines: list[str] = []
    try:
        with builder.container(box) as container:
            outcome = container.run(stdout=lines.append, stderr=lines.append)
    except NotStarted as error:
        raise BaseError(f"the base image {name!r} has no python3: {error.problem.message}") from None
    try:
        found = json.loads(lines[-1]) if outcome.exit_code == 0 else None
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict):
        text = " / ".join(lines[-3:])
        raise BaseError(f"python3 in the base image {name!r} does not work (exit code {outcome.exit_code}): {text}")
    try:
        base = _base(name, identifier, found)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise BaseError(f"python3 in the base image {name!r} does not say what it is: {lines[-1]:.200}") from None
    if known is not None:
        known.put(json.dumps(found).encode(), "base", identifier, _PROBE)
    return base


def _base(name: str, identifier: str, found: dict[str, Any]) -> Base:
    version = str(found["python"])
    if not re.fullmatch(r"3\.\d{1,3}\.\d{1,3}", version):
        raise ValueError("no version of Python")
    missing = []
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 9):
        missing.append(f"Python 3.9 or later (it has {version})")
    if not found["venv"]:
        missing.append("the venv module (package python3-venv)")
    pip = found["pip"]
    if pip is None or tuple(int(part) for part in str(pip).split(".")[:2] if part.isdigit()) < (22, 3):
        missing.append(f"pip 22.3 or later (package python3-pip; it has {pip or 'none'})")
    if missing:
        raise BaseError(f"the base image {name!r} cannot be built on: it needs {' and '.join(missing)}")
    return Base(
        name,
        identifier,
        version,
        environment={str(key): str(value) for key, value in found["environment"].items()},
        git=bool(found["git"]),
        debian=bool(found["debian"]),
        brings=tuple(str(item) for item in found["brings"]),
    )
