"""What is done with a module as soon as it is imported: once, and whatever else hooks itself into imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import samovar

SDK = str(Path(samovar.__file__).parents[1])
PREPARED = f"""
import sys; sys.path.append({SDK!r})
from samovar.environment.importing import forget, when_imported
seen = []
def act(): seen.append(hasattr(sys.modules["cmd"], "Cmd"))
"""


def said(*program: str, path: Path | None = None) -> str:
    """What a process of its own prints of `seen`, which `act` adds to: whether the module's code has run."""
    first = f"import sys; sys.path.insert(0, {str(path)!r})" if path else ""
    code = "\n".join([first, PREPARED, *program, "print(*seen)"])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_it_is_done_when_the_code_of_the_module_has_run_and_once() -> None:
    later = "import importlib; importlib.reload(cmd)"
    assert said("when_imported('cmd', act)", "print('before', *seen)", "import cmd", later) == "before\nTrue"


def test_it_is_done_at_once_where_the_module_is_there() -> None:
    assert said("import cmd", "when_imported('cmd', act)") == "True"


def test_it_is_not_done_any_more_when_it_is_forgotten() -> None:
    finders = "finders = list(sys.meta_path)"
    nothing = "assert sys.meta_path == finders"
    assert said(finders, "when_imported('cmd', act)", "forget('cmd')", nothing, "import cmd") == ""
    done = ("when_imported('cmd', act)", "when_imported('sched', act)", "import cmd", "forget('sched')")
    assert said(finders, *done, nothing) == "True"


def test_a_module_of_the_projects_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cmd.py").write_text("MINE = True\n")
    assert said("when_imported('cmd', act)", "import cmd", "assert cmd.MINE", path=tmp_path) == ""


def test_the_module_looks_as_it_does_without() -> None:
    looks = "(type(cmd.__loader__), cmd.__spec__.origin, vars(cmd.__loader__), cmd.__loader__.get_source('cmd'))"
    again = "del sys.modules['cmd']; import cmd"
    assert (
        said("when_imported('cmd', act)", f"import cmd; one = {looks}", again, f"assert one == {looks}") == "True"
    )


def test_a_finder_that_asks_all_others_again_finds_it_and_it_is_done_once() -> None:
    """As those of tools that extend modules when they are imported."""
    finder = """
import importlib.util
class Asking:
    asks = False
    def find_spec(self, name, path=None, target=None):
        if self.asks or name != "cmd":
            return None
        self.asks = True
        try:
            return importlib.util.find_spec(name)
        finally:
            self.asks = False
"""
    for order in ("0", "len(sys.meta_path)", "1"):
        assert said(
            "when_imported('cmd', act)", finder, f"sys.meta_path.insert({order}, Asking())", "import cmd"
        ) == ("True")


def test_a_finder_that_is_no_longer_one_is_passed_by() -> None:
    assert said("sys.meta_path.append(object())", "when_imported('cmd', act)", "import cmd") == "True"


def test_where_the_module_cannot_be_executed_it_is_done_the_next_time() -> None:
    fails = """
import builtins
builtins.__build_class__, real = None, builtins.__build_class__
try:
    import cmd
except TypeError:
    seen.append("failed")
builtins.__build_class__ = real
import cmd
"""
    assert said("import string", "when_imported('cmd', act)", fails) == "failed True"


def test_a_random_of_the_projects_own_has_no_generators_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("def seed(a): seen.append(a)\nclass Random: ...\n")
    watch = """
from samovar.environment import generators
import builtins
builtins.seen = seen
with generators.watching():
    import random
    random.seed(7)
    generator = random.Random()
assert generators.find() == []
generators.reseed()
"""
    assert said(watch, path=tmp_path) == "7"
