"""Text that tasks wrote, through the command: whole in pipes and documents, harmless on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from samovar.cli import text

from tests.unit.cli.conftest import Hand, Install

#: What rich would make something else of: emoji codes, markup, links, numbers, tabs, long lines, runs of spaces.
READ_AS_MARKUP = [
    ":id: :key: :warning: :+1:",
    "[bold]not bold[/bold] [/] [red] [link=x]y[/link] \\[escaped]",
    "tab\tbetween,  two   spaces, trailing  ",
    "x" * 500 + " " + "y" * 500,
    "naïve – 日本語 🫖 \u200d",
    "",
]
#: What a terminal would act on.
ACTING = [
    "\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "bell\a back\b\b form\f vertical\v return\rover",
    "\x9b31m one-byte CSI, \x7f delete",
    "user\u202egnp.exe \u2066isolated\u2069 \u200emark",
    "ad\u200bmin \ufeffstart \u2060joined \U000e0041tag \x85next \u2028line",
]


def run(install: Install, hand: Hand, project: Path, *arguments: str) -> str:
    """Deploys and runs the task; the run's id."""
    install.samovar("deploy", str(project))
    made = install.json("trigger", "greet", "--payload", '{"name": "you"}', "--wait", *arguments, code=None)
    return str(made["id"])  # type: ignore[index]


def start_on_terminal(install: Install, *arguments: str) -> tuple[int, subprocess.Popen[bytes]]:
    """The command on a terminal; the descriptor that reads what it writes there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "samovar.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "SAMOVAR_DATA": str(install.data), "TERM": "xterm", "COLUMNS": "4000"},
    )
    os.close(theirs)
    return ours, process


def on_terminal(install: Install, *arguments: str) -> str:
    """What the command writes to a terminal, as the terminal gets it."""
    ours, process = start_on_terminal(install, *arguments)
    with process:
        written = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the last one that had it open is gone
                break
            if not data:
                break
            written += data
        process.wait(60)
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("messages", [READ_AS_MARKUP, ACTING], ids=["markup", "control"])
def test_logs_in_a_pipe_and_a_document_are_as_they_were_written(
    install: Install, hand: Hand, project: Path, messages: list[str]
) -> None:
    hand.messages = messages
    made = run(install, hand, project)
    piped = subprocess.run(
        [sys.executable, "-m", "samovar.cli.main", "runs", "logs", made],
        capture_output=True,
        env={**os.environ, "SAMOVAR_DATA": str(install.data), "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert piped.stdout == "".join(message + "\n" for message in messages).encode()
    assert [line["message"] for line in install.json("runs", "logs", made)] == messages


def test_logs_on_a_terminal_show_what_would_act_on_it(install: Install, hand: Hand, project: Path) -> None:
    hand.messages = [*READ_AS_MARKUP, *ACTING]
    shown = on_terminal(install, "runs", "logs", run(install, hand, project))
    lines = shown.split("\n")
    for message in (READ_AS_MARKUP[0], READ_AS_MARKUP[1], READ_AS_MARKUP[4]):
        assert message in lines
    assert r"\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\a" in lines
    assert r"bell\a back\b\b form\f vertical\v return\rover" in lines
    assert r"\x9b31m one-byte CSI, \x7f delete" in lines
    assert r"user\u202egnp.exe \u2066isolated\u2069 \u200emark" in lines
    assert r"ad\u200bmin \ufeffstart \u2060joined \U000e0041tag \x85next \u2028line" in lines
    assert not set(shown) & set("\u200b\ufeff\u2060\U000e0041\x85\u2028\a\b\f\v\r\x7f\x9b\u202e\u2066\u2069\u200e")


STEPS = [
    {"seq": 101, "message": "10% :id:", "partial": True},
    {"seq": 102, "message": "20% \x1b[1m", "partial": True, "replaces": 101},
    {"seq": 103, "message": "100%", "replaces": 102},
    {"seq": 104, "message": "next"},
]


def test_a_progress_bar_moves_on_a_terminal_and_stands_in_a_pipe(
    install: Install, hand: Hand, project: Path
) -> None:
    install.samovar("deploy", str(project))
    follow = ("trigger", "greet", "--payload", '{"name": "you"}', "--follow")
    hand.messages, hand.steps = [], STEPS
    hand.go.release(100)
    piped = install.samovar(*follow).out
    assert piped == '100%\nnext\n{"greeting": "Hello, you!"}\n'
    hand.go = threading.Semaphore(0)
    ours, process = start_on_terminal(install, *follow)
    written = ""

    def until(text: str) -> None:
        nonlocal written
        while text not in written:
            written += os.read(ours, 65536).decode()

    hand.go.release()
    until("10% :id:")
    hand.go.release()
    until("20% \\x1b[1m")
    hand.go.release(3)
    until("next")
    assert "\r\x1b[K100%" in written
    assert "10% :id:\r\x1b[K20%" in written
    process.wait(60)
    os.close(ours)


@pytest.mark.parametrize("message", [":id: [bold]x[/] :key:", "a [/tag] that closes nothing", r"\[x] :smile:"])
def test_an_error_and_its_traceback_are_shown_as_they_are(
    install: Install, hand: Hand, project: Path, message: str
) -> None:
    traceback = f'Traceback:\n  File "x", line 1\n    d[":id:"] = [1]  # {message}\nKeyError: {message}'
    hand.error = {"type": "KeyError", "message": message, "traceback": traceback, "reason": "exception"}
    made = run(install, hand, project)
    piped = install.samovar("runs", "show", made)
    assert f"failed: KeyError: {message}\n{traceback}\n" in piped.err
    shown = on_terminal(install, "runs", "show", made)
    assert f"KeyError: {message}" in shown
    assert f'    d[":id:"] = [1]  # {message}' in shown


@pytest.mark.parametrize(
    "result",
    [":id:", "[bold]x[/]  two\n lines\t\x1b[31m", {"a": ":key:  [x]  \u202e", "b": ["y  z"] * 30_000}],
)
def test_a_result_in_a_pipe_is_whole(install: Install, hand: Hand, project: Path, result: Any) -> None:
    hand.result = result
    install.samovar("deploy", str(project))
    printed = install.samovar("trigger", "greet", "--payload", '{"name": "you"}', "--wait").out
    assert printed == (result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)) + "\n"


def test_a_document_on_a_terminal_is_the_same_document_and_acts_on_nothing(
    install: Install, hand: Hand, project: Path
) -> None:
    hand.result = {"a": "\x7f\x9b31m \u202ex \x1b[2J é 🫖"}
    shown = on_terminal(install, "runs", "show", run(install, hand, project), "--json")
    assert json.loads(shown)["result"] == hand.result
    assert not set(shown) & set("\x7f\x9b\u202e\x1b")
    assert "é 🫖" in shown


def test_a_refused_payload_and_a_tag_show_their_text(install: Install, hand: Hand, project: Path) -> None:
    install.samovar("deploy", str(project))
    refused = install.samovar("trigger", "greet", "--payload", '{"name": "x", "[red]:id:": 1}', code=2)
    assert "[red]:id:" in refused.err
    made = run(install, hand, project, "--tag", ":id:[x]")
    assert ":id:[x]" in install.samovar("runs", "show", made).out


def test_every_control_character_is_visible_and_no_letter_is_touched() -> None:
    for code in (*range(0x00, 0x20), *range(0x7F, 0xA0)):
        shown = text.visible(chr(code))
        assert (shown == chr(code)) == (chr(code) in "\t\n"), hex(code)
        assert shown in "\t\n" or shown.startswith("\\")
    assert text.visible("é日本🫖\u200d\u00a0") == "é日本🫖\u200d\u00a0"
