"""How a command ends otherwise than well, and the exit code of each way.

CliError             exit code 2: usage, or an input that was refused
├── Refused          the coordinator refused; carries its problem with the fields
├── NotFound         exit code 4
├── Unreachable      exit code 3: no coordinator answers, or it cannot answer now
└── RunDidNotComplete  exit code 1
"""

from __future__ import annotations

from typing import Any

DONE = 0
RUN_FAILED = 1
REFUSED = 2
UNREACHABLE = 3
NOT_FOUND = 4


class CliError(Exception):
    """A command cannot do what it was asked. `fields` name each input that is at fault."""

    exit_code = REFUSED
    code = "refused"

    def __init__(
        self, message: str, *, code: str | None = None, fields: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.fields = fields or []

    def document(self) -> dict[str, Any]:
        """The error as `--json` prints it."""
        return {"error": {"code": self.code, "message": self.message, "fields": self.fields}}


class Refused(CliError):
    """The coordinator refused the request."""


class NotFound(CliError):
    """There is no such thing at the coordinator."""

    exit_code = NOT_FOUND
    code = "not_found"


class Unreachable(CliError):
    """No coordinator answers."""

    exit_code = UNREACHABLE
    code = "unreachable"


class RunDidNotComplete(CliError):
    """The run that was waited for ended otherwise than completed; it has been printed already."""

    exit_code = RUN_FAILED
    code = "run_failed"


class Interrupted(CliError):
    """Ctrl-C while something was waited for."""

    exit_code = 130
    code = "interrupted"
