"""The image that a project's is built on: one the project names, Python's official one, or one made here."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field

from images import bootstrap, names
from images.box import Box
from images.config import ProjectTable
from images.container import NotStarted
from images.dependencies import Target
from images.docker_builder import Builder
from images.errors import BaseError
from images.lines import Log
from images.locks import hold
from images.settings import DEFAULT_PYTHON, ImageSettings

#: Said once in a process: a registry that did not answer is not asked again for every build.
_no_registry = threading.Event()
_usable: dict[str, Base] = {}

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


def base_image(builder: Builder, project: ProjectTable, settings: ImageSettings, log: Log) -> Base:
    """The base for `project`, fetched or made where need be. Raises BaseError saying what would help."""
    if project.base is not None:
        return _named(builder, project, settings, log)
    wanted = project.python or DEFAULT_PYTHON
    official = f"python:{wanted}-slim"
    if builder.image_id(official) is not None:
        return _check(builder, official, wanted, settings)
    # made here once, it is there without asking anybody
    if wanted == bootstrap.PYTHON and builder.image_id(bootstrap.IMAGE) is not None:
        return _check(builder, bootstrap.IMAGE, wanted, settings)
    with hold(f"base-{official}"):
        if _pull(builder, official, settings, log):
            return _check(builder, official, wanted, settings)
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
    if rebuild and _pull(builder, official, settings, log):
        return _check(builder, official, DEFAULT_PYTHON, settings)
    if rebuild and builder.image_id(official) is None:
        return bootstrapped(builder, settings, log, rebuild=True)
    return base_image(builder, ProjectTable(name="base", tasks=["base"]), settings, log)


def bootstrapped(builder: Builder, settings: ImageSettings, log: Log, *, rebuild: bool = False) -> Base:
    """The base made from Debian packages, made now where it is not there or `rebuild` is true."""
    with hold(f"base-{bootstrap.IMAGE}"):
        if rebuild or builder.image_id(bootstrap.IMAGE) is None:
            archive_labels = names.labels("base", "base", settings.labels)
            bootstrap.make(builder, labels=archive_labels, log=log)
        return _check(builder, bootstrap.IMAGE, bootstrap.PYTHON, settings)


def _named(builder: Builder, project: ProjectTable, settings: ImageSettings, log: Log) -> Base:
    assert project.base is not None, "called for a named base"
    if builder.image_id(project.base) is None:
        with hold(f"base-{project.base}"):
            if builder.image_id(project.base) is None and not _pull(builder, project.base, settings, log):
                raise BaseError(
                    f"the base image {project.base!r} is not in this host's Docker and no registry answers",
                    fields={"project.base": f"{project.base!r} is not there: docker pull or docker load it first"},
                )
    return _check(builder, project.base, project.python, settings)


def _pull(builder: Builder, name: str, settings: ImageSettings, log: Log) -> bool:
    if settings.offline or _no_registry.is_set():
        return False
    log(f"pulling {name}")
    if builder.pull(name, timeout=settings.registry_timeout, log=log) is None:
        _no_registry.set()
        log("no registry answers")
        return False
    return True


def _check(builder: Builder, name: str, python: str | None, settings: ImageSettings) -> Base:
    identifier = builder.image_id(name)
    if identifier is None:
        raise BaseError(f"the base image {name!r} has gone from this host's Docker")
    base = _usable.get(identifier) or _look_into(builder, name, identifier, settings)
    _usable[identifier] = base
    if python is not None and not base.python.startswith(f"{python}."):
        raise BaseError(
            f"the base image {name!r} has Python {base.python}, and samovar.toml asks for {python}",
            fields={"project.python": f"{python!r} is not what {name!r} has; take one of the two out"},
        )
    return base


def _look_into(builder: Builder, name: str, identifier: str, settings: ImageSettings) -> Base:
    box = Box(
        image=identifier,
        command=["python3", "-I", "-c", _PROBE],
        labels=names.labels("base", "builder", settings.labels),
        memory=settings.index_memory,
        pids=settings.index_pids,
        timeout=settings.index_timeout,
        read_only=True,
        tmpfs={"/tmp": "rw,nosuid,nodev,size=16m,mode=1777"},
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
    version = str(found["python"])
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
