"""Files in and out of runs, on a whole install: by the command line, by the client, from task to task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import samovar as sdk

from tests.stack import Stack, stack, written
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

CODE = """
import hashlib, os, time
import samovar


@samovar.task(memory="128m")
def measure(data: samovar.File, more: list[samovar.File] = ()) -> dict:
    "What it was given, looked at from inside."
    files = [data, *more]
    below = os.path.realpath(os.environ["TMPDIR"])
    return {
        "names": [file.name for file in files],
        "sizes": [file.size for file in files],
        "digests": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        "below scratch": all(os.path.realpath(file.path).startswith(below) for file in files),
    }


@samovar.task(memory="128m")
def report(text: str) -> samovar.File:
    samovar.artifact("plots/bytes.bin", bytes(range(256)))
    def write(path):
        with open(path, "w") as file:
            file.write("first")
    samovar.artifact("report.txt", write)
    path = os.path.join(os.environ["TMPDIR"], "made.txt")
    with open(path, "w") as file:
        file.write(text)
    return samovar.artifact("report.txt", path, media_type="text/plain")


@samovar.task(memory="128m")
def passes_on(text: str) -> dict:
    "A child's file to another child, over a checkpoint."
    kept = samovar.checkpoint("kept", lambda: samovar.artifact("mine.txt", text.encode()))
    samovar.wait.sleep("1s")
    return measure.trigger_and_wait(data=kept)


@samovar.task(memory="64m")
def large(data: samovar.File) -> int:
    "More than its memory would hold twice."
    return samovar.artifact("copy.bin", data.path).size


@samovar.task(memory="64m")
def refused() -> list:
    said = []
    for name, source in (("../up", b"x"), ("a", "/no/such/file"), ("a", lambda path: None), ("a", 7)):
        try:
            samovar.artifact(name, source)
        except samovar.SamovarError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


@samovar.task(memory="64m")
def slow(data: samovar.File) -> str:
    "The file while the sidecar goes away."
    open("/tmp/begun", "w").close()
    samovar.current_run().progress(0.5)
    time.sleep(2)
    samovar.artifact("copy.bin", data.path)
    return hashlib.sha256(data.read_bytes()).hexdigest()
"""


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack() as made:
        made.deploy_path(written(tmp_path_factory.mktemp("project"), "filer", CODE))
        yield made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "table ü.bin"
    path.write_bytes(os.urandom(9 * 1024 * 1024))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_of_the_command_line_is_an_argument(samovar: Stack, data: Path) -> None:
    run = samovar.cli("trigger", "measure", "--file", f"data=@{data}", "--wait")
    assert run["result"] == {
        "names": [data.name],
        "sizes": [data.stat().st_size],
        "digests": [digest(data)],
        "below scratch": True,
    }
    again = samovar.cli("trigger", "measure", "--file", f"data=@{data}", "--file", "data=@x", code=2)["error"]
    assert "has 'data' already" in again["message"]
    missing = samovar.cli("trigger", "measure", "--file", "data=@/no/such", code=2)["error"]
    assert "No such file" in missing["message"]


def test_the_client_sends_files_and_saves_what_a_run_kept(samovar: Stack, data: Path, tmp_path: Path) -> None:
    with samovar.client() as client:
        file = client.upload(data)
        small = client.upload(__file__, name="small.py")
        run = client.trigger("measure", {"data": file, "more": [small, file]})
        result = run.result(60)
        assert result["names"] == [data.name, "small.py", data.name]
        assert result["digests"] == [digest(data), digest(Path(__file__)), digest(data)]
        made = client.trigger("report", {"text": "final"})
        assert made.result(60)["name"] == "report.txt"
        assert [(one.name, one.size) for one in made.artifacts()] == [("plots/bytes.bin", 256), ("report.txt", 5)]
        assert made.artifact("report.txt").read() == b"final"
        assert made.artifact("report.txt").data["media_type"] == "text/plain"
        assert Path(made.artifact("plots/bytes.bin").save(tmp_path)).read_bytes() == bytes(range(256))
        with pytest.raises(sdk.FileMissing, match=r"keeps no file 'x'; it keeps: plots/bytes.bin, report.txt"):
            made.artifact("x")
        # what a run kept is what another one is given
        onward = client.trigger("measure", {"data": made.artifact("report.txt").file})
        assert onward.result(60)["sizes"] == [5]
        assert client.trigger("measure", {"data": made.data["result"]}).result(60)["sizes"] == [5]


def test_the_command_line_lists_and_saves_them(samovar: Stack, tmp_path: Path) -> None:
    run = samovar.finished("report", text="final")["id"]
    listed = samovar.cli("runs", "files", run)["items"]
    assert [file["name"] for file in listed] == ["plots/bytes.bin", "report.txt"]
    saved = samovar.cli("runs", "files", run, "--save", str(tmp_path / "out"))["items"]
    assert [file["saved"] for file in saved] == [
        str(tmp_path / "out" / "plots" / "bytes.bin"),
        str(tmp_path / "out" / "report.txt"),
    ]
    assert (tmp_path / "out" / "report.txt").read_text() == "final"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plots", "report.txt"]


def test_a_file_goes_from_run_to_run_over_a_checkpoint_and_a_wait(samovar: Stack) -> None:
    result = samovar.finished("passes-on", text="passed on")["result"]
    assert (result["names"], result["sizes"]) == (["mine.txt"], [9])


def test_what_is_wrong_with_a_file_is_said_where_it_is_made(samovar: Stack) -> None:
    up, path, nothing, number = samovar.finished("refused")["result"]
    assert up.startswith("FileRefused: artifact '../up': name: '../up' has to be a relative path")
    assert path.startswith("OptionError: artifact('a'): there is no file '/no/such/file'")
    assert "has not written to the path" in nothing
    assert "int is no source" in number


def test_a_payload_that_refers_to_nothing_is_refused_at_once(samovar: Stack) -> None:
    reference = '{"data": {"$file": "file_%s"}}' % ("0" * 32)
    error = samovar.cli("trigger", "measure", "--payload", reference, code=2)["error"]
    assert error["fields"][0]["path"] == "data"
    wrong = samovar.cli("trigger", "measure", "--payload", '{"data": "table.csv"}', code=2)["error"]
    assert wrong["fields"][0]["path"].startswith("data")


def test_a_sidecar_and_a_coordinator_that_go_away_cost_no_byte(samovar: Stack, data: Path) -> None:
    with samovar.client() as client:
        run = client.trigger("slow", {"data": client.upload(data)})
        eventually(lambda: run.refresh().data["progress"], "the run to have begun")
        samovar.kill_part("sidecar")
        samovar.kill_part("coordinator")
        assert run.result(120) == digest(data)
        assert hashlib.sha256(run.artifact("copy.bin").read()).hexdigest() == digest(data)
