"""What runs in a builder to install packages, and what its output means when it fails."""

from __future__ import annotations

import re
import shlex

from samovar.wire import IMAGE_ENVIRONMENT

from images.dependencies import Plan
from images.dependencies.pyproject import UNKNOWN_VERSION
from images.errors import InstallError
from images.host import HostNetwork

#: Where libraries of the source are installed in their builder, before they are added to the environment.
BUILT = "/opt/samovar/built"
#: What a line begins with that holds pip's report on a directory, and one that says which is looked at.
ANSWER = "samovar-answer "
ASKING = "samovar-asking "

_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")

#: What dpkg and apt need of root: owners and modes of files, and apt's own unprivileged user for downloads.
APT_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"]


#: Where a builder's user may write beside what it builds. In the container's own layer, and so gone with it.
WORK = "/opt/samovar/work"
#: Where a builder leaves the wheels that it makes.
MADE = f"{WORK}/made"


def fetch_script(runs: list[str], lent: str, network: HostNetwork) -> str:
    """The script of a builder with a network: `runs` are argument lists of fetch.py, each as shell words."""
    lines = [
        "set -eu",
        *_exports(network, lent, certificates=_CERTIFICATES),
        f"export HOME={WORK} TMPDIR={WORK} PIP_CACHE_DIR={lent}/cache/http PYTHONDONTWRITEBYTECODE=1",
        "export PIP_BREAK_SYSTEM_PACKAGES=1 GIT_ALLOW_PROTOCOL=https:http:git",
        *_QUIET,
        # how a package is published is no setting here: a source is asked for as one
        "unset PIP_NO_BINARY PIP_ONLY_BINARY PIP_PREFER_BINARY",
        f"cd {lent}/in",
        *(f"python3 -I {lent}/in/fetch.py {run}" for run in runs),
    ]
    return "\n".join(lines) + "\n"


def pip_script(plan: Plan, lent: str) -> str:
    """The shell script that makes the virtual environment. `lent` is where the builder sees the host's loans."""
    python = f"{IMAGE_ENVIRONMENT}/bin/python"
    system = " --system-site-packages" if plan.system else ""
    lines = [*_begin(lent), f"python3 -m venv --without-pip{system} {IMAGE_ENVIRONMENT}"]
    if not plan.empty:
        # archives that the project brings are named relative to this directory
        lines.append(f"cd {lent}/in")
    for step in plan.steps:
        constrained = "constraints.txt" in plan.files and not step.no_deps
        options = " --no-deps" if step.no_deps else ""
        options += f" -r {lent}/in/{step.file}" + (f" -c {lent}/in/constraints.txt" if constrained else "")
        lines.append(f"python3 -m pip --python {python} install{options}")
    return "\n".join(lines) + "\n"


def wheel_script(source: str, lent: str) -> str:
    """The script that builds the wheel of the source archive `source` of the house, below MADE."""
    lines = [
        *_begin(lent),
        f"mkdir {MADE}",
        f"python3 -m pip wheel --no-deps -w {MADE} {shlex.quote(f'{lent}/house/{source}')}",
    ]
    return "\n".join(lines) + "\n"


def libraries_script(count: int, lent: str) -> str:
    """The script that installs `count` directories `in/src/…` below BUILT, in the shape of the environment.

    What they need is in the environment already, which belongs to root by now.
    """
    names = " ".join(f"{WORK}/src/{number}" for number in range(count))
    lines = [
        *_begin(lent),
        # a build backend writes beside what it builds
        f"cp -r {lent}/in/src {WORK}/src",
        f"python3 -m pip --python {IMAGE_ENVIRONMENT}/bin/python install --no-deps --ignore-installed "
        f"--no-warn-script-location --root {BUILT} {names}",
    ]
    return "\n".join(lines) + "\n"


def ask_script(count: int, lent: str) -> str:
    """The script that has the build backends of `in/src/…` say what they need: a line ANSWER for each."""
    lines = [
        *_begin(lent),
        f"cp -r {lent}/in/src {WORK}/src",
        f"python3 -m venv --without-pip {WORK}/ask",
    ]
    for number in range(count):
        report = f"{WORK}/{number}.json"
        lines += [
            f"echo {ASKING}{number}",
            f"python3 -m pip --python {WORK}/ask/bin/python install --quiet --dry-run --ignore-installed "
            f"--no-deps --report {report} {WORK}/src/{number}",
            f"printf '%s' '{ANSWER}'; tr -d '\\n' < {report}; echo",
        ]
    return "\n".join(lines) + "\n"


_QUIET = (
    "export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off PIP_NO_COLOR=1",
    "export PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore GIT_TERMINAL_PROMPT=0",
)


def _begin(lent: str) -> list[str]:
    # nothing of how the host reaches an index: what runs from here on is the packages' own
    return [
        "set -eu",
        f"export HOME={WORK} TMPDIR={WORK} PIP_NO_CACHE_DIR=1 PIP_NO_INDEX=1",
        f"export PIP_FIND_LINKS='{lent}/built {lent}/house'",
        *_QUIET,
        # a source is deployed without its repository, from which these would read a version
        f"export SETUPTOOLS_SCM_PRETEND_VERSION={UNKNOWN_VERSION} PDM_BUILD_SCM_VERSION={UNKNOWN_VERSION}",
        "export POETRY_DYNAMIC_VERSIONING_BYPASS=" + UNKNOWN_VERSION,
    ]


def apt_script(packages: list[str], lent: str, network: HostNetwork) -> str:
    """The shell script that installs Debian packages as root and leaves no lists or archives behind."""
    names = " ".join(shlex.quote(package) for package in packages)
    options = "-o Dpkg::Use-Pty=0 -o APT::Install-Recommends=false"
    if network.bundle is not None:
        options += f" -o Acquire::https::CAInfo={lent}/in/ca.pem"
    proxies = {key.lower(): value for key, value in network.environment.items() if key.lower().endswith("_proxy")}
    # what the base's own files say of proxies would come first
    for scheme in ("http", "https"):
        if proxy := proxies.get(f"{scheme}_proxy"):
            options += f" -o Acquire::{scheme}::Proxy={shlex.quote(proxy)} -o Acquire::{scheme}::Pipeline-Depth=0"
    return "\n".join(
        [
            "set -eu",
            *(f"export {key}={shlex.quote(value)}" for key, value in sorted(proxies.items())),
            "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 TMPDIR=/tmp",
            "command -v apt-get >/dev/null || { echo 'E: the base image has no apt-get' >&2; exit 100; }",
            f"apt-get {options} update -q",
            f"apt-get {options} install -q -y --no-install-recommends {names}",
            "apt-get clean",
            "rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log",
            "",
        ]
    )


def explain_pip(output: list[str], exit_code: int, requirements: Plan) -> InstallError:
    """What went wrong in words, with pip's own line and the requirement's place in the project."""
    errors = [line for line in output if line.startswith(("ERROR:", "error:"))]
    text = "\n".join(output)
    if name := _match(r"No matching distribution found for (\S+)", text):
        if _unreachable(text):
            return InstallError(
                f"the package index could not be reached for {name}: {_network_line(output)}",
                code="index_unreachable",
            )
        quoted = next((line for line in errors if "find a version" in line), errors[0] if errors else "")
        project = re.split(r"[^A-Za-z0-9._-]", name)[0]
        place = requirements.place_of(project) or requirements.source or "requirements"
        return InstallError(
            f"the requirement {name!r} cannot be installed: no such package, or no version of it for this Python. "
            f"pip says: {quoted}",
            code="requirement_not_found",
            fields={place: f"{name!r}: {quoted.removeprefix('ERROR: ')}"},
        )
    if "conflicting dependencies" in text or "ResolutionImpossible" in text:
        start = next((i for i, line in enumerate(output) if "ERROR: Cannot install" in line), 0)
        return InstallError(
            "the requirements contradict each other. pip says:\n" + "\n".join(output[start:][:15]),
            code="requirements_conflict",
        )
    if _unreachable(text):
        return InstallError(
            f"the package index could not be reached: {_network_line(output)}", code="index_unreachable"
        )
    said = "\n".join(errors[-3:] or output[-10:])
    hint = ""
    if "subprocess-exited-with-error" in text or "Failed building wheel" in text or "Failed to build" in text:
        culprit = _match(r"Failed (?:building wheel for|to build) (\S+)", text)
        hint = (
            f"{culprit or 'a package'} could not be built from its source. Take a version that has a wheel, or "
            'name the compilers and headers it needs in apt = ["build-essential", …]. '
        )
        start = next((i for i, line in enumerate(output) if "exited-with-error" in line), max(0, len(output) - 20))
        told = output[start:]
        # what went wrong comes last
        said = "\n".join(told if len(told) <= 35 else [*told[:5], "…", *told[-30:]])
    return InstallError(f"{hint}pip failed (exit code {exit_code}). It says:\n{said}")


def explain_backend(error: InstallError, where: str) -> InstallError:
    """What went wrong where a build backend was asked what the directory `where` needs."""
    file = "pyproject.toml" if where == "." else f"{where}/pyproject.toml"
    return InstallError(
        f"what {file} needs only its build backend can say, and that failed; mend it, or list what is needed in a "
        f'requirements file and name that with requirements = "…". {error.problem.message}',
        fields={file: "its dependencies are dynamic, and its build backend failed"},
    )


def explain_apt(output: list[str], exit_code: int) -> InstallError:
    """What went wrong in words, with apt's own line."""
    errors = [line for line in output if line.startswith("E:")] or output[-5:]
    text = "\n".join(errors)
    if name := _match(r"Unable to locate package (\S+)", text) or _match(r"Version '[^']*' for '([^']*)'", text):
        return InstallError(
            f"the Debian package {name!r} is not to be had: {errors[0]}",
            code="package_not_found",
            fields={"project.apt": f"{name!r}: {errors[0].removeprefix('E: ')}"},
        )
    return InstallError(f"apt-get failed (exit code {exit_code}). It says:\n{text}")


def _exports(network: HostNetwork, lent: str, *, certificates: tuple[str, ...]) -> list[str]:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(network.environment.items())]
    if network.bundle is not None:
        lines += [f"export {name}={lent}/in/ca.pem" for name in certificates]
    return lines


def _match(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _unreachable(text: str) -> bool:
    return "WARNING: Retrying (Retry(total=0" in text or "Could not fetch URL" in text


def _network_line(output: list[str]) -> str:
    lines = [line for line in output if "Could not fetch URL" in line or "Retrying (Retry" in line]
    return lines[-1].removeprefix("WARNING: ") if lines else output[-1]
