"""Requirements files, as pip reads them: in any encoding, nested, with options, paths and URLs."""

from __future__ import annotations

import posixpath
import re

from images.dependencies.findings import Findings
from images.dependencies.tree import join, logical_lines, outside

_NESTED = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S+)$")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+)(.+)$")


def read_requirements_file(found: Findings, where: str) -> None:
    """Read the file at `where`, which is there, and what it refers to."""
    _read(found, where, (where,), constraint=False)


def _read(found: Findings, where: str, seen: tuple[str, ...], *, constraint: bool) -> None:
    if (where, constraint) in found.files_read:
        return
    found.files_read.add((where, constraint))
    directory = posixpath.dirname(where) or "."
    for number, line in logical_lines(found.tree.text(where)):
        place = f"{where}:{number}"
        if nested := _NESTED.match(line):
            _nested(found, nested, place, directory, seen, constraint=constraint)
        elif editable := _EDITABLE.match(line):
            _editable(found, editable[1], place, directory)
        elif line.startswith("-"):
            found.option(line, place, directory)
        else:
            found.requirement(line, place, directory, constraint=constraint)


def _nested(
    found: Findings, line: re.Match[str], place: str, directory: str, seen: tuple[str, ...], *, constraint: bool
) -> None:
    other = line[2].strip("\"'")
    if re.match(r"https?://", other):
        found.lines.append(f"{line[1]} {other}")
        return
    where = join(directory, other)
    path = found.tree.at(where)
    if path is None or not path.is_file():
        out = outside(where) or where.startswith("/")
        found.problems[place] = f"{other!r} is not a file in the project" + (
            f": {found.tree.absence(where)}" if out else "; is it ignored by .gitignore or .samovarignore?"
        )
    elif where in seen:
        found.problems[place] = f"{other!r} includes itself"
    else:
        _read(found, where, (*seen, where), constraint=constraint or line[1] in {"-c", "--constraint"})


def _editable(found: Findings, text: str, place: str, directory: str) -> None:
    # in an image nothing is edited: what is editable is installed as it is, and the project's own code is there
    if re.match(r"(?:git|hg|svn|bzr)\+", text):
        name = re.search(r"[#&]egg=([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", text)
        url = re.sub(r"([#&])egg=[^&]*&?", r"\1", text).rstrip("#&")
        extras = f"[{name[2]}]" if name and name[2] else ""
        found.requirement(f"{name[1]}{extras} @ {url}" if name else text, place, directory)
    elif found.is_path(text, directory) or found.tree.at(join(directory, text.split("[")[0])) is not None:
        found.local(text, place, directory)
    else:
        found.problems[place] = f"-e {text!r} is neither a directory of the project nor a repository"
