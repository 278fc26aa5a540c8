"""What `import samovar` offers: everything named exists, is documented, and costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
import samovar

SURFACE = {
    "Abort", "ApiError", "AsyncClient", "AsyncRunHandle", "Canceled", "CheckpointError", "Client",
    "Challenge", "NonDeterministic", "Suspend", "on_exit",
    "CoordinatorUnreachable", "Cron", "CurrentRun", "Event", "File", "FileMissing", "FileRefused",
    "InvalidPayload", "Item", "NotFound", "NotInRun",
    "NotSerializable", "OptionError", "Queue", "Retry", "RetryAfter", "RunFailed", "RunHandle", "SamovarError",
    "SecretMissing", "Task", "WaitTimeout", "Webhook",
    "artifact", "checkpoint", "current_run", "secret", "task", "wait",
}  # fmt: skip


def test_the_names_are_the_documented_ones() -> None:
    assert set(samovar.__all__) == SURFACE
    assert set(samovar.__all__) <= set(dir(samovar))


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(samovar, name)
    assert (value.__doc__ or type(value).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tsk'"):
        _ = samovar.tsk  # type: ignore[attr-defined]


def test_importing_loads_nothing_else_and_nothing_from_outside_the_standard_library() -> None:
    code = """
import sys
import samovar
early = sorted(name for name in sys.modules if name.startswith("samovar"))
for name in samovar.__all__: getattr(samovar, name)
import samovar.index, samovar.running.local, samovar.payloads.signature
import samovar.harness.zygote, samovar.harness.process
outside = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"samovar", "__main__"}
print(early, sorted(outside))
"""
    # no site: its .pth files load what they like
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {samovar.__path__[0] + '/..'!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "['samovar'] []"


def test_task_and_checkpoint_stay_what_they_are_when_submodules_are_imported() -> None:
    import samovar.running.checkpoints
    import samovar.tasks

    assert callable(samovar.task)
    assert callable(samovar.checkpoint)
