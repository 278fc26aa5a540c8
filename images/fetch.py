"""What runs in a builder that has a network: it fetches packages, and nothing of a package runs in it.

Given to the builder as a file, so only the standard library and the builder's own pip are there. A wheel is read
for what it needs, a source archive is taken as it is: where pip would begin to run a package's own program, this
takes the file and ends.

    fetch.py wheels DIRECTORY PIP-ARGUMENT…    wheels, with what they need
    fetch.py ahead DIRECTORY PIP-ARGUMENT…     the same, where they are to be had; nothing is an error
    fetch.py source DIRECTORY PIP-ARGUMENT…    one package as it is published, of whatever form
    fetch.py missing FILE PIP-ARGUMENT…        write name==version of what the builder's Python does not have yet
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any


class OnlyGit(subprocess.Popen):  # type: ignore[type-arg]
    """No program but git, which fetches as well."""

    def __init__(self, args: Any, *rest: Any, **more: Any) -> None:
        if not isinstance(args, (list, tuple)) or os.path.basename(str(args[0])) != "git":
            raise OSError("no program of a package runs where there is a network")
        super().__init__(args, *rest, **more)


def _keep(req: Any, directory: str) -> None:
    path = req.local_file_path or ""
    if os.path.isfile(path):
        shutil.copyfile(path, os.path.join(directory, os.path.basename(path)))
    else:
        # a checkout
        top, name = os.path.split(os.path.abspath(req.source_dir))
        shutil.make_archive(os.path.join(directory, "checkout"), "gztar", top, name)


def main() -> int:
    verb, target, *arguments = sys.argv[1:]
    import pip._internal.operations.prepare as prepare
    from pip._internal.cli.main import main as pip

    subprocess.Popen = OnlyGit  # type: ignore[misc]
    real = prepare._get_prepared_distribution

    def prepared(req: Any, *rest: Any, **more: Any) -> Any:
        if verb == "source":
            _keep(req, target)
        elif req.link is not None and req.link.is_wheel:
            return real(req, *rest, **more)
        else:
            print(f"ERROR: No matching distribution found for {req.req or req}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # at once: nothing of what pip does with a source may come after
        os._exit(int(verb not in {"source", "ahead"}))

    prepare._get_prepared_distribution = prepared
    if verb == "source":
        pip(["download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", target, *arguments])
        return 1
    if verb == "ahead":
        print("fetching what it is built with", flush=True)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        pip(["download", "--retries", "1", "--only-binary", ":all:", "-d", target, *arguments])
        return 0
    if verb == "wheels":
        return int(pip(["download", "--only-binary", ":all:", "-d", target, *arguments]))
    report = f"{target}.json"
    code = pip(["install", "--dry-run", "--quiet", "--only-binary", ":all:", "--report", report, *arguments])
    if code == 0:
        with open(report, encoding="utf-8") as file:
            wanted = [item["metadata"] for item in json.load(file)["install"]]
        with open(target, "w", encoding="utf-8") as file:
            file.writelines(f"{item['name']}=={item['version']}\n" for item in wanted)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
