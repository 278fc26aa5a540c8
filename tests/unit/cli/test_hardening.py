"""What `samovar doctor` says of an engine, by what the engine tells of itself."""

from __future__ import annotations

from typing import Any

import pytest
from samovar.cli import hardening
from samovar.cli.hardening import KNOWN, Check

GOOD = {
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default", "name=userns"],
    "CgroupVersion": "2",
    "LiveRestoreEnabled": True,
    "Runtimes": {"runc": {}, "runsc": {"path": "runsc"}},
    "DockerRootDir": "/",
}


def component(name: str, version: str, commit: str = "") -> dict[str, Any]:
    others = {"runc": "9.0.0", "containerd": "9.0.0", "Engine": "99.0.0", name: version}
    details = {name: {"GitCommit": commit}}
    return {"Components": [{"Name": n, "Version": v, "Details": details.get(n, {})} for n, v in others.items()]}


def said(name: str, version: str, commit: str = "") -> Check:
    shown = "docker engine" if name == "Engine" else name
    return next(c for c in hardening.components(component(name, version, commit)) if c.name == shown)


@pytest.mark.parametrize(
    ("name", "version", "flaws"),
    [
        ("runc", "1.0.0-rc6", ["CVE-2023-27561", "CVE-2024-21626"]),
        ("runc", "1.1.11", ["CVE-2024-21626", "CVE-2024-45310", "CVE-2025-31133"]),
        ("runc", "1.1.12", ["CVE-2024-45310", "CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"]),
        ("runc", "1.2.7", ["CVE-2025-31133"]),
        ("runc", "1.3.2", ["CVE-2025-52881"]),
        ("containerd", "1.6.0", ["CVE-2022-23648", "CVE-2024-25621"]),
        ("containerd", "v2.1.4", ["CVE-2024-25621"]),
        ("Engine", "20.10.8", ["CVE-2021-41091", "CVE-2024-41110"]),
        ("Engine", "26.1.4", ["CVE-2024-41110"]),
    ],
)
def test_versions_with_known_ways_out_are_named(name: str, version: str, flaws: list[str]) -> None:
    check = said(name, version)
    assert check.status == "warn"
    assert all(flaw in check.message for flaw in flaws), check.message
    assert "update" in check.remedy


@pytest.mark.parametrize(
    ("name", "version"),
    [("runc", "1.2.8"), ("runc", "1.3.3"), ("runc", "1.4.0"), ("containerd", "2.2.0"), ("containerd", "1.7.29"),
     ("Engine", "27.1.1"), ("Engine", "28.5.0"), ("Engine", "25.0.6")],
)  # fmt: skip
def test_others_are_well(name: str, version: str) -> None:
    assert said(name, version).status == "ok"


def test_a_distributions_version_may_be_mended() -> None:
    assert "security tracker" in said("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1").remedy
    assert "security tracker" not in said("runc", "1.1.5", "v1.1.5-0-gf19387a6").remedy


@pytest.mark.parametrize("version", ["", "unknown", "dev"])
def test_a_version_that_says_nothing_is_not_taken_for_a_good_one(version: str) -> None:
    assert said("runc", version).status == "warn"


def test_an_engine_that_names_no_parts_is_not_taken_for_a_good_one() -> None:
    assert {check.status for check in hardening.components({})} == {"warn"}
    assert len(list(hardening.components({}))) == len(KNOWN)


def test_a_host_that_has_everything() -> None:
    assert {c.name: c.status for c in hardening.engine(GOOD) if c.name != "engine's disk"} == {
        "cgroups": "ok", "user namespaces": "ok", "live restore": "ok", "apparmor": "ok", "gvisor": "ok",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lacking", "name"),
    [
        ({"CgroupVersion": "1"}, "cgroups"),
        ({"SecurityOptions": ["name=seccomp"]}, "user namespaces"),
        ({"SecurityOptions": ["name=seccomp"]}, "apparmor"),
        ({"LiveRestoreEnabled": False}, "live restore"),
        ({"Runtimes": {"runc": {}}}, "gvisor"),
        ({"Runtimes": {"runsc": {"runtimeArgs": ["--ignore-cgroups"]}}}, "gvisor"),
    ],
)
def test_what_is_lacking_is_named_with_what_to_do(lacking: dict[str, Any], name: str) -> None:
    check = next(c for c in hardening.engine({**GOOD, **lacking}) if c.name == name)
    assert check.status == "warn"
    assert check.remedy
