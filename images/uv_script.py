"""What runs in a builder that installs with uv, and how pip's settings and options are said to it."""

from __future__ import annotations

import re
import shlex

from packaging.utils import canonicalize_name
from samovar.wire import IMAGE_ENVIRONMENT

from images.dependencies import Plan
from images.host import HostNetwork
from images.stock import name_of_line, plan_lines

#: pip's settings of the host, as uv calls them.
_SETTINGS = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_PROXY": "ALL_PROXY",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_RETRIES": "UV_HTTP_RETRIES",
}
#: Options of a requirements file that uv reads there itself.
_KEPT = {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "-r", "--requirement"}
_KEPT |= {"-c", "--constraint"}
#: What changes nothing where wheels alone are taken, and hashes are asked for on the command line.
_DROPPED = {"--prefer-binary", "--only-binary", "--require-hashes", "--no-build-isolation", "--use-feature"}


def in_ways_of_uv(plan: Plan) -> dict[str, tuple[bytes, list[str]]] | None:
    """The requirements files of the plan's steps and their options, as uv takes them; None where only pip can.

    uv is given what comes as wheels. What has to be built of a source that the project names (an archive, a
    repository, `--no-binary`) is pip's, and so is an environment that sees the base's packages.
    """
    if plan.system or any(lines.sources for lines in plan_lines(plan).values()):
        return None
    found: dict[str, tuple[bytes, list[str]]] = {}
    for step in plan.steps:
        taken = _taken(plan.files[step.file].decode("utf-8", "replace"))
        if taken is None:
            return None
        lines, options = taken
        if step.no_deps:
            options.append("--no-deps")
        elif any("--hash" in line for line in lines):
            options.append("--require-hashes")
        found[step.file] = ("".join(f"{line}\n" for line in lines).encode(), options)
    return found


def _taken(text: str) -> tuple[list[str], list[str]] | None:
    lines: list[str] = []
    options: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        if line.startswith("-"):
            name, _, value = line.partition("=") if re.match(r"--[\w-]+=", line) else line.partition(" ")
            if name in _KEPT:
                lines.append(line)
            elif name == "--pre":
                options += ["--prerelease", "allow"]
            elif name == "--trusted-host":
                options += ["--allow-insecure-host", value.strip()]
            elif name not in _DROPPED:
                return None
            continue
        # of a URL or a path, what is before the marker and the hashes
        place = re.split(r"\s", line.partition(" @ ")[2] or line, maxsplit=1)[0]
        if ("://" in place or place.startswith(".")) and not place.partition("#")[0].lower().endswith(".whl"):
            return None
        lines.append(line)
    return lines, options


def uv_script(
    plan: Plan, steps: dict[str, tuple[bytes, list[str]]], network: HostNetwork, lent: str, built: str, cache: str
) -> str:
    """The script of a builder that has a network and makes the environment of wheels: nothing of them runs in it.

    `built` is the directory of wheels that this build made of sources, `cache` uv's own, of whose files the
    environment's are links: on the disk, they are there once.
    """
    environment = {"HOME": "/tmp", "TMPDIR": "/tmp", "UV_CACHE_DIR": cache, "UV_NO_CONFIG": "1"}
    environment |= {
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
        "UV_LINK_MODE": "hardlink",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    for name, value in network.environment.items():
        if name in _SETTINGS:
            environment[_SETTINGS[name]] = value
        elif not name.startswith("PIP_"):
            environment[name] = value
    if network.bundle is not None:
        environment["SSL_CERT_FILE"] = f"{lent}/in/ca.pem"
    command = [f"{lent}/uv/uv", "pip", "install", "--no-build", "--python", f"{IMAGE_ENVIRONMENT}/bin/python"]
    # as pip does: the best version of all indexes
    command += ["--index-strategy", "unsafe-best-match", "--find-links", built]
    if network.environment.get("PIP_NO_INDEX"):
        command.append("--no-index")
    for url in network.environment.get("PIP_FIND_LINKS", "").split():
        command += ["--find-links", url]
    lines = [
        "set -eu",
        "umask 022",
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())),
        f"python3 -I -m venv --without-pip {IMAGE_ENVIRONMENT}",
        f"cd {lent}/in",
    ]
    for step in plan.steps:
        options = list(steps[step.file][1])
        if "constraints.txt" in plan.files and not step.no_deps:
            options += ["-c", "constraints.txt"]
        lines.append(shlex.join([*command, *options, "-r", f"uv-{step.file}"]))
    return "\n".join(lines) + "\n"


def without_wheel(output: list[str], plan: Plan) -> str | None:
    """The requirement of which uv says that there is no wheel, only a source: a name and versions alone."""
    text = "\n".join(output)
    found = re.search(r"Wheels are required for `([A-Za-z0-9][A-Za-z0-9._-]{0,200})`", text)
    if not found:
        return None
    name = canonicalize_name(found[1])
    if version := re.search(rf"\b{re.escape(found[1])}==([A-Za-z0-9.+!_-]{{1,100}}) has no usable wheels", text):
        return f"{name}=={version[1]}"
    for lines in plan_lines(plan).values():
        for line in lines.online:
            if not line.startswith(("-", ".")) and name_of_line(line) == name:
                return line.partition(";")[0].partition(" --")[0].strip()
    return name


def missing(output: list[str]) -> tuple[str, str] | None:
    """The requirement that uv found nothing for, and its own words: where that is all that is wrong."""
    said = " ".join(" ".join(output).partition("cause: ")[2].split())
    requirement = r"([A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]*\])?(?:[=<>!~]=?=?[A-Za-z0-9.*+!_-]+)?)"
    found = re.match(rf"Because \S+ was not found in the package registry and you require {requirement},? ", said)
    found = found or re.match(
        rf"Because there (?:is no version|are no versions) of {requirement} and you require", said
    )
    return (found[1], said) if found else None
