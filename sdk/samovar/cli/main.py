"""The command `samovar`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """The entry point; ends the process with the command's exit code."""
    # the collector would look again and again at all that was imported so far: a sixth of a short command
    gc.disable()
    from samovar.cli.command import report
    from samovar.cli.commands import application
    from samovar.cli.errors import CliError
    from samovar.cli.output import Output

    # help and the completion of a shell list what there is
    every = "--help" in sys.argv or "_SAMOVAR_COMPLETE" in os.environ
    app = application(() if every else sys.argv[1:])
    gc.freeze()  # what was imported stays
    gc.enable()
    if "--json" not in sys.argv:
        app()
        return
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        # a usage error; which class it is depends on the version of typer
        words = getattr(error, "format_message", None)
        if words is None:
            raise
        refused = CliError(words() or "a command is missing; --help lists them", code="usage")
        report(Output(as_json=True), refused)
        code = refused.exit_code
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
