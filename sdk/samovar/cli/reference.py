"""The reference of the command line, written from the commands themselves.

python -m samovar.cli.reference > docs/reference/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from samovar.cli.commands import application

_HEAD = """\
# The command line

<!-- Written by `python -m samovar.cli.reference`; a test compares it with the commands. -->

`pip install 'samovar[cli]'` gives the command `samovar`. `samovar COMMAND --help` says the same as this page.

## For every command

These may stand before the command's name or after it.

| option | meaning |
|---|---|
| `--json` | One JSON document on stdout, nothing else. Progress and prose are on stderr in any case. |
| `--url URL` | The coordinator's address. |
| `--api-key KEY` | The key that opens it. |
| `--data DIR` | Data directory of a local install (default `~/.samovar`). |

Where the coordinator is, and its key, is looked for in this order: `--url` and `--api-key`; the environment
variables `SAMOVAR_URL` and `SAMOVAR_API_KEY`; `credentials.json` in the directory that `--data` or `SAMOVAR_DATA`
names; `credentials.json` in `~/.samovar`. A key found in a file is only sent to the address in that file.

Where a command takes `--project` and it is not given, it is the project of the samovar.toml in the current folder.
Without one there, lists are of every project, and what is about one project takes the only one that the key sees.

With `--json` one thing is one object, and a list is `{"items": [...], "next": cursor}`; `runs logs` is a list of
`{at, level, stream, logger, message, attempt, seq}`. A refused input is `{"error": {"code", "message", "fields":
[{"path", "message"}]}}`.

| exit code | meaning |
|---|---|
| 0 | done; with `--wait` or `--follow`: the run completed |
| 1 | the run failed, was canceled, timed out or expired; `doctor`: a check failed |
| 2 | wrong usage, or an input that was refused |
| 3 | no coordinator answers |
| 4 | there is no such thing |
| 130 | Ctrl-C while something was waited for (the run goes on) |

Durations are seconds, or text such as `500ms`, `90s`, `15m`, `2h`, `7d`; memory is bytes or `512m`, `2g`.

## What `samovar up` keeps

`up` supervises three processes and starts again one that dies. Each has an environment of its own: coordinator and
sidecar are not told where Docker is, the runner is not told where the database is. Settings of a part are given as
environment variables to `up`: `SAMOVAR_COORDINATOR_…`, `SAMOVAR_SIDECAR_…`, `SAMOVAR_RUNNER_…`. It is ready when
`GET /healthz` answers 200 and the runner has registered; the first SIGINT or SIGTERM stops runner, sidecar and
coordinator in this order and leaves no container, a second one ends everything at once and leaves containers to the
next start. One data directory is held by one `up`.

| in the data directory | what it is |
|---|---|
| `credentials.json` | `{"url", "api_key"}`, an admin key; mode 0600, the key is kept |
| `runner/runner.key` | the key of this host's runner, which it made itself; mode 0600 |
| `coordinator.db`, `blobs/`, `server-secret` | the coordinator's, where no `--database` is given |
| `runner/` | the runner's records, and the package caches of builds |
| `run/` | unix sockets; below `/tmp` where the path would be too long for one |
| `logs/` | what each process wrote: three files of at most 10 MB each |
| `policy.toml` | what tasks may ask of this host; the operator writes it |
"""

_COMMON = frozenset({"as_json", "url", "api_key", "data", "help"})


def render() -> str:
    """The whole page, in Markdown."""
    group = typer.main.get_command(application())
    return "\n".join([_HEAD, *_sections("samovar", group)]).rstrip() + "\n"


def _sections(name: str, command: Any) -> Iterator[str]:
    for sub, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from _sections(f"{name} {sub}", inner)
        else:
            yield _section(f"{name} {sub}", inner)


def _section(name: str, command: Any) -> str:
    own = [parameter for parameter in command.params if parameter.name not in _COMMON]
    arguments = [p for p in own if p.param_type_name == "argument"]
    options = [p for p in own if p.param_type_name == "option"]
    usage = " ".join([name, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}", "", f"`{usage}`", "", (command.help or "").strip(), ""]
    if own:
        lines += ["| | meaning |", "|---|---|"]
        lines += [f"| `{_argument(p)}` | {p.help or ''} |" for p in arguments]
        lines += [f"| `{_option(p)}` | {_meaning(p)} |" for p in options]
        lines.append("")
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().strip("{}[]")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join([*sorted(parameter.opts, key=len), *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    return f"{names} {(parameter.metavar or parameter.name.rpartition('_')[2]).upper()}"


def _meaning(parameter: Any) -> str:
    default = parameter.default
    shown = (
        ""
        if parameter.is_flag or default is None or default == [] or callable(default)
        else f" Default: `{default}`."
    )
    return f"{parameter.help or ''}{shown}".strip()


if __name__ == "__main__":
    sys.stdout.write(render())
