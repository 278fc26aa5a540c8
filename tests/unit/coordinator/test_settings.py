"""Settings that come from files."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from coordinator.access import key_files
from coordinator.settings import Settings
from runner.settings import Settings as RunnerSettings


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(key_files.read(file))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert found[0].startswith("sk_")
    assert len(found[0]) > 40
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_itself_goes_before_its_file(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    settings = Settings(data=tmp_path, admin_key="sk_given", admin_key_file=file)
    assert settings.resolved_admin_key == "sk_given"
    assert not file.exists()


def test_a_token_itself_goes_before_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    given = {"coordinator_url": "http://x", "sidecar_socket": tmp_path, "state": tmp_path, "token_file": file}
    assert RunnerSettings(**given).enrolment_token() is None  # it was removed when it had done its work
    file.write_text("smvh_in_the_file\n")
    assert RunnerSettings(**given).enrolment_token() == "smvh_in_the_file"
    assert RunnerSettings(**given, token="smvh_given").enrolment_token() == "smvh_given"


def test_the_databases_password_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/word\n")
    url = "postgresql://samovar@db:5432/samovar"
    settings = Settings(data=tmp_path, database_url=url, database_password_file=file)
    assert settings.resolved_database_url == "postgresql://samovar:p%40ss%2Fword@db:5432/samovar"


@pytest.mark.parametrize("keys", [{}, {"key": "rk_1", "key_file": "/keys/runner.key"}])
def test_a_runner_has_one_key(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="give one of key"):
        RunnerSettings(coordinator_url="http://x", sidecar_socket=tmp_path, state=tmp_path, **keys)  # type: ignore[arg-type]
