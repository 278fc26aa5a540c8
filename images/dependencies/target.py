"""The interpreter that packages are for: what markers are held against, and what the base image brings."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet

#: Debian packages called python3-… that hold no library: they make sense beside any interpreter.
_NO_LIBRARY = frozenset(
    {"all", "dev", "doc", "full", "minimal", "pip", "setuptools", "tk", "venv", "wheel", "distutils"}
)


@dataclass(frozen=True)
class Target:
    """`environment` holds the variables of PEP 508 markers. `exact` is false while the base is not looked into."""

    environment: dict[str, str]
    exact: bool = False
    #: Whether the image can reach git repositories; True as long as nobody looked.
    git: bool = True
    #: Whether its python3 sees what Debian's python3-* packages install.
    debian: bool = True
    #: Names of distributions the base image brings beside pip and its like.
    brings: tuple[str, ...] = ()
    apt: tuple[str, ...] = field(default=())

    @property
    def has_git(self) -> bool:
        return self.git or any(name.split("=")[0] in {"git", "git-core"} for name in self.apt)

    @property
    def debian_libraries(self) -> list[str]:
        """The project's Debian packages that are Python libraries."""
        names = [name.split("=")[0].split(":")[0] for name in self.apt]
        return [name for name in names if name.startswith("python3-") and name[8:] not in _NO_LIBRARY]

    @property
    def sees_system(self) -> bool:
        """Whether the virtual environment is to see the packages of the system's Python."""
        return bool(self.brings) or (self.debian and bool(self.debian_libraries))

    def holds(self, marker: object, extras: Collection[str] = (), groups: Collection[str] = ()) -> bool:
        """Whether a marker holds here, for any of `extras` where it asks for one. No marker always holds.

        Raises ValueError where it is no marker.
        """
        if not isinstance(marker, str) or not marker.strip():
            return True
        try:
            parsed = Marker(marker)
            sets: dict[str, str | frozenset[str]] = {}
            if re.search(r"\b(?:extras|dependency_groups)\b", marker):
                sets = {"extras": frozenset(extras), "dependency_groups": frozenset(groups)}
            if sets:
                return parsed.evaluate({**self.environment, **sets}, context="lock_file")
            return any(parsed.evaluate({**self.environment, "extra": extra}) for extra in extras or ("",))
        except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, TypeError) as error:
            raise ValueError(f"{marker!r} is no marker: {error}") from None

    def accepts(self, specifier: str) -> bool:
        """Whether a `requires-python` holds; one that cannot be read does, and any while nothing is exact."""
        if not self.exact:
            return True
        try:
            return SpecifierSet(specifier).contains(self.environment["python_full_version"], prereleases=True)
        except InvalidSpecifier:
            return True


def guess(python: str, apt: list[str]) -> Target:
    """What an ordinary image of Python `python`, as in "3.11", has; to find mistakes before there is a base."""
    return Target(
        {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.99",
            "os_name": "posix",
            "platform_machine": platform.machine(),
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.99",
            "python_version": python,
            "sys_platform": "linux",
        },
        apt=tuple(apt),
    )
