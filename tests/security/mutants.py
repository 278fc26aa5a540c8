"""Controls switched off, one by one: `make isolation-mutants` sees that the tests notice each.

A mutant is a text of one file and another text in its place. The tests named with it run in a copy of the tree that
has the mutant in it, and at least one has to fail.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.security.controls import MUTANTS
from tests.security.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Judged:
    """What became of a mutant."""

    mutant: Mutant
    caught: bool
    said: str


def judge(mutant: Mutant) -> Judged:
    """Runs the mutant's tests with the mutant in place; it is caught where they fail."""
    with tempfile.TemporaryDirectory(prefix="smv-mutant-") as directory:
        copy = Path(directory) / "tree"
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        for name in filter(None, tracked):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        # what Python has compiled of them goes by their times, which are the same; the mutant's is another
        for folder in {Path(name).parent for name in tracked if name.endswith(".py")}:
            if (compiled := ROOT / folder / "__pycache__").is_dir():
                shutil.copytree(compiled, copy / folder / "__pycache__")
        mutant.put_into(copy)
        done = subprocess.run(
            [environment(copy), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
    # 1 is "tests failed"; above are mutants or tests that could not run, and so are errors of something else
    broken = done.returncode == 1 and "FAILED " not in done.stdout and "AssertionError" not in done.stdout
    if done.returncode not in {0, 1} or broken:
        raise SystemExit(f"{mutant.name}: its tests could not run\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return Judged(mutant, done.returncode == 1, done.stdout[-2000:])


def environment(tree: Path) -> Path:
    """The interpreter of a virtual environment that finds our packages in `tree`, and all others where they are.

    Not PYTHONPATH: the server's processes are started without the variables of who starts them.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tree / ".venv"], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tree / ".venv")}))
    # as a path alone, so that the files in it that point at this tree are not read
    site.joinpath("mutant.pth").write_text(f"{tree}\n{tree / 'sdk'}\n{sysconfig.get_path('purelib')}\n")
    python = tree / ".venv" / "bin" / "python"
    # tests start the command that stands beside their interpreter
    command = python.with_name("samovar")
    command.write_text(f"#!{python}\nimport sys\n\nfrom samovar.cli.main import main\n\nsys.exit(main())\n")
    command.chmod(0o755)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants by name (default: all)")
    names = parser.parse_args().names
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        raise SystemExit(f"no such mutant: {', '.join(sorted(unknown))}")
    missed = []
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        judged = judge(mutant)
        print(f"{'caught' if judged.caught else 'MISSED'}  {mutant.name}: {mutant.off}", flush=True)
        if not judged.caught:
            missed.append(mutant.name)
            print(judged.said)
    print(f"{len(missed)} missed" if missed else "all caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
