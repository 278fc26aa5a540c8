"""What the host knows about reaching package indexes: certificates, pip's settings, proxies, Debian's mirror.

On a company network packages come through a private authority, an index of one's own, a proxy. A build needs
the same, so it is passed into the builder container, and none of it is kept in an image.
"""

from __future__ import annotations

import configparser
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

#: pip's settings that say where packages come from and how they are fetched. Others stay on the host.
_PIP_SETTINGS = (
    "INDEX_URL",
    "EXTRA_INDEX_URL",
    "FIND_LINKS",
    "NO_INDEX",
    "TRUSTED_HOST",
    "PROXY",
    "TIMEOUT",
    "DEFAULT_TIMEOUT",
    "RETRIES",
    "PREFER_BINARY",
    "ONLY_BINARY",
    "NO_BINARY",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_DISTRIBUTION_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


#: Where pip goes without a word: its index, and the host that has that index's files.
_PUBLIC_INDEX = ("pypi\x2eorg:443", "files.pythonhosted\x2eorg:443")
_PORTS = {"http": 80, "https": 443}
_TAKEN_OVER = (*_PROXIES, "ALL_PROXY", "all_proxy", "PIP_PROXY")


@dataclass(frozen=True)
class Reach:
    """What a step of a build downloads from: `"name:port"` each, and which of them may be at any address."""

    hosts: tuple[str, ...]
    private: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostNetwork:
    """How this host reaches package indexes. `environment` holds PIP_* and proxy variables."""

    bundle: Path | None
    environment: dict[str, str] = field(default_factory=dict)
    #: Settings that name something only this host has, and so were left out.
    left_out: list[str] = field(default_factory=list)

    def through(self, proxy: str) -> HostNetwork:
        """The same, with `proxy` as the one way there is: the host's own is behind it."""
        kept = {name: value for name, value in self.environment.items() if name not in _TAKEN_OVER}
        kept |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
        return replace(self, environment={**kept, "NO_PROXY": "", "no_proxy": ""})

    def indexes(self) -> Reach:
        """Where pip's settings of this host lead, wherever that is."""
        given = self.environment
        urls = [*given.get("PIP_EXTRA_INDEX_URL", "").split(), *given.get("PIP_FIND_LINKS", "").split()]
        if "PIP_INDEX_URL" in given:
            urls.append(given["PIP_INDEX_URL"])
        found = [place for url in urls if (place := place_of(url)) is not None]
        if "PIP_INDEX_URL" not in given or _PUBLIC_INDEX[0] in found:
            found += _PUBLIC_INDEX
        hosts = tuple(dict.fromkeys(found))
        return Reach(hosts, hosts)


def place_of(url: str) -> str | None:
    """`"name:port"` of what an HTTP(S) URL leads to; None where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if port is None or parts.scheme not in _PORTS or not parts.hostname:
        return None
    name = parts.hostname.rstrip(".")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def host_network(
    environ: Mapping[str, str] | None = None, *, config_files: list[Path] | None = None
) -> HostNetwork:
    """Read the host's settings from `environ` (default: the process's) and pip's configuration files."""
    environ = os.environ if environ is None else environ
    settings = _pip_files(_config_files(environ) if config_files is None else config_files)
    for name in (*_PIP_SETTINGS, "CERT"):
        if value := environ.get(f"PIP_{name}"):
            settings[name] = value
    bundle = _bundle(environ, settings.pop("CERT", None))
    passed: dict[str, str] = {}
    left_out: list[str] = []
    for name, value in settings.items():
        kept = [part for part in value.split() if not _is_path(part)] if name == "FIND_LINKS" else [value]
        if kept:
            passed[f"PIP_{name}"] = " ".join(kept)
        if name == "FIND_LINKS" and len(kept) < len(value.split()):
            left_out.append(f"PIP_{name}={value}")
    passed |= {name: environ[name] for name in _PROXIES if environ.get(name)}
    return HostNetwork(bundle, passed, left_out)


def debian_mirror(sources: Path = Path("/etc/apt")) -> str | None:
    """The Debian mirror that this host's apt is set to, or None where it has none."""
    candidates: list[str] = []
    for file in sorted((sources / "sources.list.d").glob("*.sources")):
        candidates += _deb822_mirrors(_text(file))
    for file in [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*.list"))]:
        for line in _text(file).splitlines():
            words = [word for word in line.split("#")[0].split() if not word.startswith("[")]
            words = [word for word in words if not word.endswith("]") and "=" not in word]
            if len(words) >= 4 and words[0] == "deb" and words[3] == "main":
                candidates.append(words[1])
    # a mirror's security archive and other vendors' repositories hold no whole distribution
    return next((url.rstrip("/") for url in candidates if url.rstrip("/").endswith("/debian")), None)


def host_sources(sources: Path = Path("/etc/apt")) -> list[str]:
    """The `"name:port"` of every repository that this host's apt is set to."""
    names = [*(sources / "sources.list.d").glob("*"), sources / "sources.list"]
    return repositories({path.name: _text(path) for path in names})


def repositories(files: Mapping[str, str]) -> list[str]:
    """The `"name:port"` of every repository in apt's files of sources, by their names."""
    texts = [text for name, text in sorted(files.items()) if name.endswith((".list", ".sources"))]
    lines = [line.partition("#")[0] for text in texts for line in text.splitlines()]
    urls = [word for line in lines for word in line.split() if "://" in word]
    return list(dict.fromkeys(place for url in urls if (place := place_of(url)) is not None))


def _deb822_mirrors(text: str) -> list[str]:
    found = []
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            if not line.startswith("#") and ":" in line and not line[0].isspace():
                name, _, value = line.partition(":")
                fields[name.strip().lower()] = value.strip()
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false"}
        if enabled and "deb" in fields.get("types", "").split() and "main" in fields.get("components", "").split():
            found += fields.get("uris", "").split()
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _config_files(environ: Mapping[str, str]) -> list[Path]:
    # pip's own order, the later over the earlier
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME", "/nonexistent"))
    xdg = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", xdg / "pip/pip.conf"]
    return [*files, Path(named)] if named else files


def _pip_files(files: list[Path]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, "utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                for key, value in parser.items(section):
                    name = key.upper().replace("-", "_")
                    if name in _PIP_SETTINGS or name == "CERT":
                        settings[name] = " ".join(value.split())
    return settings


def _bundle(environ: Mapping[str, str], configured: str | None) -> Path | None:
    candidates = [configured, *(environ.get(name) for name in _BUNDLE_VARIABLES), *_DISTRIBUTION_BUNDLES]
    candidates.append(ssl.get_default_verify_paths().cafile)
    return next((Path(name) for name in candidates if name and Path(name).is_file()), None)


def _is_path(text: str) -> bool:
    return text.startswith(("/", ".", "~", "file:")) or "://" not in text
