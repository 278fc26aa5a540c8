"""What every command has: --json, --url, --api-key, --data, and errors that become exit codes."""

from __future__ import annotations

import contextvars
import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from samovar.cli.api import Api, connected, find_credentials
from samovar.cli.errors import CliError, Interrupted, RunDidNotComplete
from samovar.cli.output import Output

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
UrlOption = Annotated[Optional[str], typer.Option("--url", help="The coordinator's address.", metavar="URL")]
KeyOption = Annotated[Optional[str], typer.Option("--api-key", help="The key that opens it.", metavar="KEY")]
DataOption = Annotated[
    Optional[Path], typer.Option("--data", help="Data directory of a local install.", metavar="DIR")
]


@dataclass(frozen=True)
class Common:
    """The options that may stand before the command's name and after it."""

    as_json: bool = False
    url: str | None = None
    api_key: str | None = None
    data: Path | None = None


#: Those that stood before the command's name.
_before: contextvars.ContextVar[Common | None] = contextvars.ContextVar("common", default=None)


@dataclass
class Cli:
    """What a command is given: the common options, and its output."""

    common: Common
    output: Output = field(init=False)

    def __post_init__(self) -> None:
        self.output = Output(self.common.as_json)

    @property
    def as_json(self) -> bool:
        return self.common.as_json

    @contextmanager
    def api(self) -> Iterator[Api]:
        """The coordinator that the options, the environment or the data directory name."""
        with connected(find_credentials(self.common.url, self.common.api_key, self.common.data)) as api:
            yield api


def remember(common: Common) -> None:
    """Keep the options that stood before the command's name."""
    _before.set(common)


Function = typing.TypeVar("Function", bound=Callable[..., None])


def command(app: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Make a function whose first parameter is a Cli the command `name` of `app`.

    The common options are added to its own, and CliError becomes a message and an exit code.
    """

    def register(function: Function) -> Function:
        hints = typing.get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        common = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for option, default, annotation in (
                ("as_json", False, JsonOption),
                ("url", None, UrlOption),
                ("api_key", None, KeyOption),
                ("data", None, DataOption),
            )
        ]

        def run(**values: Any) -> None:
            before = _before.get() or Common()
            cli = Cli(
                Common(
                    as_json=values.pop("as_json") or before.as_json,
                    url=values.pop("url") or before.url,
                    api_key=values.pop("api_key") or before.api_key,
                    data=values.pop("data") or before.data,
                )
            )
            with exiting(cli.output):
                function(cli, **values)

        run.__doc__ = function.__doc__
        run.__name__ = function.__name__
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + common
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name)(run)
        return function

    return register


@contextmanager
def exiting(output: Output) -> Iterator[None]:
    """Turn an error into its message and its exit code."""
    try:
        yield
    except RunDidNotComplete as error:
        # the run itself has been printed, and is the one document of --json
        raise typer.Exit(error.exit_code) from None
    except CliError as error:
        report(output, error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        output.say("interrupted")
        raise typer.Exit(Interrupted.exit_code) from None
    except BrokenPipeError:
        # the reader of a pipe has gone, as `| head` does
        raise typer.Exit(0) from None


def report(output: Output, error: CliError) -> None:
    """Print `error`: a document with --json, else a message on stderr."""
    if output.as_json:
        output.document(error.document())
    else:
        output.problem(error.message, error.fields)
