"""The modules of a start in one file: made by an interpreter, and imported from by the same one."""

from __future__ import annotations

import marshal
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import samovar

SDK = str(Path(samovar.__file__).parent.parent)
MAKE = (
    "import sys; sys.path.insert(0, sys.argv[1])\nfrom samovar.harness import bundle\n"
    "open(sys.argv[2], 'wb').write(bundle.made())"
)
USE = """
import marshal, sys
sys.path.insert(0, sys.argv[1])
with open(sys.argv[2], "rb") as file:
    _, modules = marshal.load(file)
    code = file.read()
names = {"__name__": "samovar.harness.bundle"}
_, _, start, end = modules["samovar.harness.bundle"]
exec(marshal.loads(code[start:end]), names)
names["install"](modules, code)
import samovar.harness.supervisor, samovar.harness.zygote
from samovar.harness import bundle
print(type(sys.modules["samovar.harness.attempt"].__loader__).__name__)
held = len(modules)
bundle.keep_own()
import samovar.running.files, samovar.payloads.signature, json.scanner, decimal
owners = samovar.running.files, samovar.payloads.signature, decimal
print(*(type(module.__loader__).__name__ for module in owners))
bundle.forget()
print(held > 60, len(modules), len(sys.meta_path))
import samovar.harness.relay, json.tool, importlib
print(type(samovar.harness.relay.__loader__).__name__)
print(importlib.reload(samovar.harness.attempt).__file__)
"""


def python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-I", "-S", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    python(MAKE, SDK, str(path))
    return path


def test_it_has_what_a_start_imports_and_nothing_of_the_interpreters_own(bundle: Path) -> None:
    with bundle.open("rb") as file:
        (version, library), modules = marshal.load(file)
        assert max(end for _, _, _, end in modules.values()) == len(file.read())
    assert version == sys.version
    assert Path(library).is_dir()
    assert {"samovar", "samovar.harness.bundle", "samovar.harness.attempt"} <= set(modules)
    assert {"samovar.values.tracebacks", "socket", "json", "json.decoder", "signal"} <= set(modules)
    assert not {"sys", "os", "__main__"} & set(modules)
    assert not {"inspect", "ast", "dis", "dataclasses"} & set(modules), "each container would hold them"
    # what a project takes of this package is there, and what that takes of the standard library is not
    taken = {"samovar.running.files", "samovar.running.waits", "samovar.payloads.signature", "samovar.declare.cron"}
    assert taken <= set(modules)
    assert not {"datetime", "decimal", "uuid", "pathlib", "tempfile", "mimetypes", "logging", "random"} & set(
        modules
    )
    assert modules["json"][0] is True
    assert Path(modules["json"][1]).name == "__init__.py"


def test_process_1_imports_what_it_takes_alone() -> None:
    """It is there for as long as the container is, in each of them."""
    program = (
        "import sys; sys.path.append(sys.argv[1]); import samovar.harness.supervisor; print(' '.join(sys.modules))"
    )
    found = set(python(program, SDK).split())
    assert "samovar.harness.attempt" in found
    assert not {"typing", "inspect", "logging", "threading", "traceback", "samovar.errors"} & found


def test_what_a_project_imports_of_this_package_is_in_it(bundle: Path) -> None:
    """All of its public names but those that call from outside."""
    with bundle.open("rb") as file:
        _, modules = marshal.load(file)
    program = (
        "import sys; sys.path.append(sys.argv[1]); import samovar\n"
        "for name in samovar.__all__:\n    found = getattr(samovar, name)\n"
        "print(*(name for name in sys.modules if name.startswith('samovar.')))"
    )
    found = set(python(program, SDK).split())
    assert "samovar.running.waits" in found
    assert {name for name in found - set(modules) if not name.startswith("samovar.calling")} == set()


def test_modules_come_from_it_until_it_is_forgotten(bundle: Path) -> None:
    said = python(USE, SDK, str(bundle)).split()
    # a project may have a module in the place of one of the standard library
    assert said[:4] == ["_Loader", "_Loader", "_Loader", "SourceFileLoader"]
    assert said[4:7] == ["True", "0", "3"]
    assert said[7] == "SourceFileLoader"
    # a module that came from it is read where its file is, from then on
    assert said[8].endswith("samovar/harness/attempt.py")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01nonsense",
        marshal.dumps((("another Python", "/nowhere"), {"samovar": (True, "/nowhere", 0, 0)})),
        marshal.dumps(((sys.version, str(Path(subprocess.__file__).parent)), {})),
        marshal.dumps(None),
    ],
)
def test_process_1_starts_without_one_that_is_none_of_its_own(content: bytes, tmp_path: Path) -> None:
    """It says that there is no sidecar, which takes all of its modules."""
    package = tmp_path / "samovar"
    shutil.copytree(Path(samovar.__file__).parent, package, ignore=shutil.ignore_patterns("cli"))
    (package / "harness" / "bundle").write_bytes(content)
    environment = {"SAMOVAR_SOCKET": str(tmp_path / "none"), "SAMOVAR_DISCONNECT_LIMIT": "0.1"}
    command: list[Any] = [sys.executable, "-I", "-S", package / "harness" / "boot.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "no sidecar at" in done.stderr
