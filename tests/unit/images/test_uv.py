"""What uv is told, and what it says."""

from __future__ import annotations

import io
import itertools
import marshal
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

import images.compile
from images.archive import ImageConfig, Packed, archive_of, large_parts, pack_tree
from images.dependencies import Plan
from images.dependencies.pins import Step
from images.docker_builder import Builder
from images.errors import BuildError
from images.host import HostNetwork
from images.settings import ImageSettings
from images.steps import Steps
from images.stock import stock
from images.uv_installer import uv_program
from images.uv_script import in_ways_of_uv, missing, uv_script, without_wheel
from images.workshop import Workshop, store, trim


def plan(text: str, **more: object) -> Plan:
    return Plan(
        "requirements.txt",
        {"requirements.txt": text.encode()},
        steps=[Step("requirements.txt")],
        places={"nope": "requirements.txt:4"},
        **more,  # type: ignore[arg-type]
    )


def test_options_of_a_requirements_file_are_said_as_uv_takes_them() -> None:
    taken = in_ways_of_uv(
        plan(
            "--extra-index-url https://i.example/simple\n--pre\n--prefer-binary\n--trusted-host=i.example\n"
            "six==1 --hash=sha256:00\n./wheels/a-1-py3-none-any.whl\nb @ https://f.example/b-1-py3-none-any.whl#x\n"
        )
    )
    assert taken is not None
    text, options = taken["requirements.txt"]
    assert text.decode().splitlines() == [
        "--extra-index-url https://i.example/simple",
        "six==1 --hash=sha256:00",
        "./wheels/a-1-py3-none-any.whl",
        "b @ https://f.example/b-1-py3-none-any.whl#x",
    ]
    assert options == ["--prerelease", "allow", "--allow-insecure-host", "i.example", "--require-hashes"]


@pytest.mark.parametrize(
    "line",
    [
        "./wheels/a-1.tar.gz",
        "a @ git+https://code.example/a@v1",
        "a @ https://files.example/a-1.tar.gz#egg=a.whl",
        "https://files.example/a-1.zip",
        "--no-binary six\nsix",
        "--some-option\nsix",
    ],
)
def test_what_has_to_be_built_is_left_to_pip(line: str) -> None:
    assert in_ways_of_uv(plan(f"{line}\n")) is None


def test_an_environment_that_sees_the_bases_packages_is_left_to_pip() -> None:
    assert in_ways_of_uv(plan("six\n", system=True)) is None


def script(text: str, network: HostNetwork) -> str:
    asked = plan(text)
    steps = in_ways_of_uv(asked)
    assert steps is not None
    return uv_script(asked, steps, network, "/lent", "/lent/built", "/cache")


def test_pips_settings_of_the_host_are_uvs() -> None:
    settings = {
        "PIP_INDEX_URL": "https://u:p$(id)'@index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://other.example/simple",
        "PIP_DEFAULT_TIMEOUT": "180",
        "PIP_FIND_LINKS": "https://links.example/",
        "PIP_NO_BINARY": "six",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }
    said = script("six\n", HostNetwork(Path("/etc/ca.pem"), settings))
    assert """export UV_DEFAULT_INDEX='https://u:p$(id)'"'"'@index.example/simple'\n""" in said
    assert "export UV_INDEX=https://other.example/simple\n" in said
    assert "export UV_HTTP_TIMEOUT=180\n" in said
    assert "export HTTPS_PROXY=http://proxy.example:3128\n" in said
    assert "export SSL_CERT_FILE=/lent/in/ca.pem\n" in said
    assert "--find-links https://links.example/" in said
    assert "PIP_" not in said


def test_stores_that_have_grown_begin_anew(tmp_path: Path) -> None:
    said: list[str] = []
    with stock(tmp_path, lambda path: None) as supply:
        settings = ImageSettings(build_disk=4 * 1024**2, build_files=1000)
        builder = cast(Builder, None)
        shop = Workshop(builder, "orders", tmp_path, settings, said.append, {}, supply, Steps(said.append))
        (store(shop, "fetched") / "small").write_bytes(b"x" * 1000)
        trim(shop)
        assert (store(shop, "fetched") / "small").exists()
        (store(shop, "fetched") / "large").write_bytes(b"x" * 2 * 1024**2)
        (store(shop, "compiled") / "small").write_bytes(b"x" * 1000)
        trim(shop)
        assert list(store(shop, "fetched").iterdir()) == []
        assert (store(shop, "compiled") / "small").exists()
    assert len(said) == 1


def test_a_host_without_uv_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert uv_program(tmp_path) == uv_program(tmp_path)
    program = uv_program(tmp_path)
    assert program is not None
    assert os.access(program / "uv", os.X_OK)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(tmp_path / "nowhere"))
    assert uv_program(tmp_path) is None


def test_uv_takes_wheels_alone() -> None:
    said = script("six\n", HostNetwork(None, {}))
    commands = [line for line in said.splitlines() if "/uv/uv" in line]
    assert len(commands) == 1
    assert " --no-build " in commands[0]
    assert "SSL_CERT_FILE" not in said


SOURCE_ALONE = [
    "error: No solution found when resolving dependencies",
    "  cause: Because pyperclip==1.8.2 has no usable wheels and you require pyperclip==1.8.2, we can conclude",
    "hint: Wheels are required for `pyperclip` because building from source is disabled for all packages",
]


@pytest.mark.parametrize(
    ("output", "line", "wanted"),
    [
        (SOURCE_ALONE, "pyperclip", "pyperclip==1.8.2"),
        ([SOURCE_ALONE[2]], "Pyperclip<2 ; python_version > '3'", "Pyperclip<2"),
        ([SOURCE_ALONE[2]], "six", "pyperclip"),
        (["hint: Wheels are required for `--index-url=http://evil.example` because"], "six", None),
        (["all is well"], "six", None),
    ],
)
def test_what_is_published_as_a_source_alone_is_a_name_and_versions(
    output: list[str], line: str, wanted: str | None
) -> None:
    assert without_wheel(output, plan(f"{line}\n")) == wanted


def test_a_requirement_that_is_not_there_is_told_from_a_conflict() -> None:
    start = ["error: No solution found when resolving dependencies"]
    absent = "Because nope was not found in the package registry and you require nope==9, we can conclude"
    assert missing([*start, f"  cause: {absent}"]) == ("nope==9", absent)
    version = "Because there is no version of six==99 and you require six==99, we can conclude"
    assert missing([*start, f"  cause: {version}"]) == ("six==99", version)
    conflict = "Because a==1 depends on b>=2 and you require a==1, we can conclude that you require b>=2."
    assert missing([*start, f"  cause: {conflict}"]) is None


def test_steps_are_timed_apart_from_those_inside() -> None:
    said: list[str] = []
    clock = itertools.count().__next__
    steps = Steps(said.append, clock=lambda: float(clock()))
    with steps.step("outer"), steps.step("inner"):
        pass
    with steps.step("inner"):
        pass
    assert steps.taken == {"inner": 2.0, "outer": 2.0}
    steps.tell()
    assert said == ["took 4.0 s: inner 2.0 s, outer 2.0 s"]


def packed(root: Path, most: int = 10**6, **more: Any) -> dict[str, tuple[bytes, int, str]]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        pack_tree(root, layer, "opt/env", most, **more)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        return {member.name: (member.type, member.mode, member.linkname) for member in tar}


def test_a_directory_is_packed_without_rights_and_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o2777)
    (tmp_path / "bin/run").write_text("#!/bin/sh\n")
    (tmp_path / "bin/run").chmod(0o6777)
    (tmp_path / "bin/again").hardlink_to(tmp_path / "bin/run")
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "etc").symlink_to("/etc")
    subprocess.run(["mkfifo", str(tmp_path / "pipe")], check=True)
    assert packed(tmp_path) == {
        "opt/env": (tarfile.DIRTYPE, 0o755, ""),
        "opt/env/bin": (tarfile.DIRTYPE, 0o755, ""),
        "opt/env/bin/again": (tarfile.REGTYPE, 0o755, ""),
        "opt/env/bin/run": (tarfile.REGTYPE, 0o755, ""),
        "opt/env/etc": (tarfile.SYMTYPE, 0o777, "/etc"),
        "opt/env/passwd": (tarfile.SYMTYPE, 0o777, "/etc/passwd"),
    }


def test_what_is_packed_comes_with_the_directories_that_lead_there(tmp_path: Path) -> None:
    for name in ("a.py", "pkg/b.py", "pkg/__pycache__/b.pyc", "pkg/data/c.csv", "__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(packed(tmp_path, wanted=lambda path, compiled: compiled and path.startswith("pkg/"))) == {
        *("opt/env", "opt/env/pkg", "opt/env/pkg/__pycache__", "opt/env/pkg/__pycache__/b.pyc"),
    }
    assert set(packed(tmp_path, wanted=lambda path, compiled: not compiled)) == {
        *("opt/env", "opt/env/a.py", "opt/env/pkg", "opt/env/pkg/b.py"),
        *("opt/env/pkg/data", "opt/env/pkg/data/c.csv"),
    }


def test_large_packages_are_told_by_their_own_files(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    for name, size in {"big/a/b.so": 900, "big/c.py": 200, "big/__pycache__/c.pyc": 5000, "small/a.py": 10}.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(b"x" * size)
    (site / "module.py").write_bytes(b"x" * 5000)
    assert large_parts(tmp_path, 1000) == {"lib/python3.11/site-packages/big"}
    assert large_parts(tmp_path, 2000) == set()


def test_no_more_is_packed_than_is_taken(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(10 * 10**6)
    with pytest.raises(BuildError) as caught:
        packed(tmp_path)
    assert caught.value.problem.code == "build_too_large"


def test_an_image_is_an_archive_with_one_layer_and_names_of_the_others() -> None:
    layer = io.BytesIO(b"x" * 3_000_000)
    parent = {"RootFS": {"Layers": ["sha256:" + "0" * 64]}, "Architecture": "amd64", "Os": "linux"}
    identifier, pieces = archive_of(
        name="samovar/a:b", parent=parent, layers=[Packed.of(layer)], config=ImageConfig({})
    )
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        sizes = {member.name: member.size for member in tar}
    names = list(sizes)
    assert names[0] == f"{identifier.removeprefix('sha256:')}.json"
    assert names[1].endswith("/layer.tar")
    assert sizes[names[1]] == 3_000_000
    assert names[2:] == ["manifest.json"]


def compiled(root: Path, store: Path) -> None:
    program = Path(images.compile.__file__)
    subprocess.run([sys.executable, "-I", "-S", "-W", "ignore", program, root, store], check=True)


def test_byte_code_is_made_once_and_kept_by_its_source(tmp_path: Path) -> None:
    root, store = tmp_path / "env", tmp_path / "store"
    (root / "pkg/tests").mkdir(parents=True)
    store.mkdir()
    (root / "pkg/a.py").write_text("raise SystemExit('it was run')\n")
    (root / "pkg/broken.py").write_text("def (\n")
    (root / "pkg/tests/test_a.py").write_text("A = 1\n")
    (root / "out.py").symlink_to("/etc/hostname")
    compiled(root, store)
    made = list(root.rglob("*.pyc"))
    assert [path.name.split(".")[0] for path in made] == ["a"]
    # byte code that is never checked against its source
    assert made[0].read_bytes()[4:8] == b"\x01\0\0\0"
    kept = [path for path in store.rglob("*") if path.is_file()]
    assert len(kept) == 1
    # what is there is taken, and not made again
    other = compile("B = 2", str(root / "pkg/a.py"), "exec")
    kept[0].write_bytes(made[0].read_bytes()[:16] + marshal.dumps(other))
    made[0].unlink()
    compiled(root, store)
    assert made[0].read_bytes() == kept[0].read_bytes()
    # of another source it is another's
    (root / "pkg/a.py").write_text("C = 3\n")
    compiled(root, store)
    assert made[0].read_bytes() != kept[0].read_bytes()
    assert len([path for path in store.rglob("*") if path.is_file()]) == 2


def test_byte_code_that_a_package_brings_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    """It may be one file with that in uv's cache."""
    root, store = tmp_path / "env", tmp_path / "store"
    (root / "__pycache__").mkdir(parents=True)
    store.mkdir()
    (root / "a.py").write_text("A = 1\n")
    name = f"a.{sys.implementation.cache_tag}.pyc"
    cached = tmp_path / "cached"
    for _ in range(2):
        cached.write_bytes(b"of the package")
        (root / "__pycache__" / name).unlink(missing_ok=True)
        (root / "__pycache__" / name).hardlink_to(cached)
        compiled(root, store)
        assert cached.read_bytes() == b"of the package"
        assert (root / "__pycache__" / name).read_bytes() != b"of the package"
