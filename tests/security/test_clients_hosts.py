"""A runner's key in other hands: it acts as its own runner, and as no other; and ports that show keys."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from samovar.cli.errors import CliError
from samovar.cli.ports import check_address
from sqlalchemy import Connection, delete, insert

from coordinator import listening
from coordinator.access import hosts
from coordinator.attempts import runners
from coordinator.foundation.errors import DirectoryUnusable
from coordinator.listening import UnsafeAddress
from coordinator.settings import Settings
from coordinator.storage.database import Database
from coordinator.storage.tables import keys
from coordinator.wire import Heartbeat
from runner.coordinator_client import CoordinatorClient
from runner.enrolment import enrol
from runner.errors import NotEnrolled
from runner.settings import Settings as RunnerSettings
from tests.conformance.store import task_entry
from tests.security.attempts import attempt
from tests.security.clients import Seat, seat
from tests.unit.coordinator.conftest import error, ok, serving
from tests.waiting import eventually

BEAT = {"memory": 2**32, "slots": 4, "task_memory": 2**30}
CLAIM = {"memory": 2**32, "slots": 4, "timeout": 0, "most": 4}
FLEET = "/internal/v1"
SHARED_KEY = "rk_that_hosts_shared_before"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    with seat(tmp_path_factory.mktemp("hosts") / "data") as made:
        yield made


def token(here: Seat, **body: Any) -> str:
    return str(ok(here.api.admin.post("/api/v1/hosts/token", json=body))["token"])


def enrolled(here: Seat, runner: str, secret: str | None = None) -> str:
    """A key of the runner's own."""
    key = f"rk_{runner}_{'k' * 30}{secret or ''}"
    with here.api.client(token(here)) as client:
        ok(client.post(f"{FLEET}/runners/{runner}/enrol", json={"hash": sha(key)}))
    return key


def by_hand(here: Seat) -> str:
    """A key of the role runner that no runner has used yet."""
    body = {"name": f"by-hand-{uuid.uuid4().hex}", "role": "runner"}
    return str(ok(here.api.admin.post("/api/v1/keys", json=body))["key"])


def shared_key(database: Database, key: str) -> None:
    """Puts the key of the settings into force as earlier versions did."""

    def write(conn: Connection, now: float) -> None:
        conn.execute(delete(keys).where(keys.c.name == "settings:runner"))
        row = {"id": "key_old", "name": "settings:runner", "role": "runner", "hash": sha(key), "runner": "*"}
        conn.execute(insert(keys).values(**row, created_at=now))

    database.write_now(write)


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def drop(here: Seat) -> None:
    """Nothing is in line."""
    ok(here.api.admin.post("/api/v1/runs/cancel", json={"filter": {"status": ["queued", "running"]}}))


def held(here: Seat, key: str, runner: str) -> dict[str, Any]:
    """An assignment that the runner has taken."""
    here.api.trigger("minimine/greet")
    with here.api.client(key) as client:
        body = {**CLAIM, "timeout": 10, "most": 1}
        (assignment,) = ok(client.post(f"{FLEET}/runners/{runner}/claim", json=body))["assignments"]
    return dict(assignment)


AS_ANOTHER = [
    ("claims runs as another runner", "POST", "/runners/victim/claim", CLAIM),
    ("answers another runner's heartbeat", "POST", "/runners/victim/heartbeat", BEAT),
    ("listens to another runner's commands", "POST", "/runners/victim/commands", {"known": [], "timeout": 0}),
    ("adopts another runner's attempts, with their secrets", "GET", "/runners/victim/attempts", None),
    ("asks for another runner's images", "POST", "/runners/victim/images", {"images": []}),
]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param(
            *rest, marks=attempt("client", f"a runner's key {said}", "keys are bound to a runner's id", "403")
        )
        for said, *rest in AS_ANOTHER
    ],
)
def test_a_runners_key_acts_as_no_other(here: Seat, method: str, path: str, body: Any) -> None:
    mine = enrolled(here, f"r-{path.rpartition('/')[2]}")
    with here.api.client(mine) as client:
        refused = error(client.request(method, f"{FLEET}{path}", json=body), 403, "forbidden")
        assert "victim" in refused["message"]
        ok(client.post(f"{FLEET}/runners/r-{path.rpartition('/')[2]}/heartbeat", json=BEAT))


@attempt("client", "a runner's key gives up another runner's attempt", "the attempt names its runner", "403")
def test_anothers_attempt_is_not_given_up(here: Seat) -> None:
    victim, mine = enrolled(here, "r-holds"), enrolled(here, "r-takes")
    taken = held(here, victim, "r-holds")
    body = {"token": taken["token"], "reason": "lost", "message": "gone"}
    for key in (mine, by_hand(here)):
        with here.api.client(key) as client:
            error(client.post(f"{FLEET}/attempts/{taken['attempt']}/lost", json=body), 403, "forbidden")
    assert here.api.run(taken["run"])["status"] == "running"
    with here.api.client(victim) as client:
        ok(client.post(f"{FLEET}/attempts/{taken['attempt']}/lost", json=body))


@attempt("client", "a runner's key writes to, or reads the source of, another runner's build", "as above", "403")
def test_anothers_build_is_not_touched(here: Seat) -> None:
    from tests.unit.coordinator.conftest import source

    victim, mine = enrolled(here, "r-builds"), enrolled(here, "r-meddles")
    made = here.api.upload(source("minimine")).json()["id"]
    with here.api.client(victim) as client:
        answer = client.post(f"{FLEET}/runners/r-builds/claim", json={**CLAIM, "slots": 0, "builds": 1})
        (build,) = ok(answer)["builds"]
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": [task_entry("greet")]}
    for key in (mine, by_hand(here)):
        with here.api.client(key) as client:
            for action, body in (
                ("done", {"token": build["token"], "image": "evil", "index": index}),
                ("failed", {"token": build["token"], "error": {"code": "x", "message": "x"}}),
                ("log", {"token": build["token"], "lines": ["x"]}),
            ):
                error(client.post(f"{FLEET}/builds/{made}/{action}", json=body), 403, "forbidden")
            error(client.get(f"{FLEET}/builds/{made}/source"), 403, "forbidden")
    with here.api.client(victim) as client:
        assert client.get(f"{FLEET}/builds/{made}/source").is_success
        ok(client.post(f"{FLEET}/builds/{made}/done", json={"token": build["token"], "image": "i", "index": index}))


@attempt("client", "a key that hosts shared in earlier versions invents a runner", "only tokens enrol", "401")
def test_a_shared_key_lets_nobody_in(here: Seat) -> None:
    # in force again, as a coordinator of an earlier version on the same database would have it
    shared_key(here.core.database, SHARED_KEY)
    enrolled(here, "r-known")
    with here.api.client(SHARED_KEY) as shared:
        for runner in ("r-invented", "r-known"):
            for method, path, body in (
                ("POST", "enrol", {"hash": sha("invented")}),
                ("POST", "heartbeat", BEAT),
                ("POST", "claim", CLAIM),
                ("GET", "attempts", None),
            ):
                answer = shared.request(method, f"{FLEET}/runners/{runner}/{path}", json=body)
                assert "samovar hosts token" in error(answer, 401, "unauthenticated")["message"]
        error(shared.get(f"{FLEET}/builds/dep_none/source"), 401, "unauthenticated")
        error(shared.post(f"{FLEET}/attempts/att_none/lost", json={}), 401, "unauthenticated")
    assert not [h for h in ok(here.api.admin.get("/api/v1/hosts"))["items"] if h["runner"] == "r-invented"]


def test_a_shared_key_ends_with_the_upgrade(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as (_, core):
        shared_key(core.database, SHARED_KEY)
    with serving(data) as (api, _):
        (row,) = [key for key in ok(api.admin.get("/api/v1/keys"))["items"] if key["name"] == "settings:runner"]
        assert row["revoked_at"] is not None
        with api.client(SHARED_KEY) as shared:
            answer = shared.post(f"{FLEET}/runners/r-old/heartbeat", json=BEAT)
            assert "samovar hosts token" in error(answer, 401, "unauthenticated")["message"]


def test_a_runner_with_a_shared_key_is_told_what_to_do(here: Seat, tmp_path: Path) -> None:
    shared_key(here.core.database, SHARED_KEY)
    with pytest.raises(NotEnrolled, match="samovar hosts token"):
        joined(here, settings(here, tmp_path / "state", key=SHARED_KEY), "r-older")
    # and with one it goes on, whatever key it still has
    joined(here, settings(here, tmp_path / "state", key=SHARED_KEY, token=token(here)), "r-older")


@attempt("client", "the token in a volume enrols a second host", "it works once, for the first alone", "401")
def test_the_first_hosts_token_is_for_the_first_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, data = tmp_path / "host-token", tmp_path / "data"
    monkeypatch.setenv("SAMOVAR_COORDINATOR_HOST_TOKEN_FILE", str(file))
    with serving(data):
        first = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
    with serving(data) as (api, _):
        assert file.read_text().strip() == first, "it is good still"
        with api.client(first) as client:
            ok(client.post(f"{FLEET}/runners/r-first/enrol", json={"hash": sha("first")}))
            error(client.post(f"{FLEET}/runners/r-next/enrol", json={"hash": sha("next")}), 401, "bad_token")
    with serving(data) as (api, _):
        assert not file.exists()
        # nor when that host was thrown out: it would come back by itself
        ok(api.admin.delete("/api/v1/keys/host:r-first"))
    with serving(data):
        assert not file.exists()


def test_a_token_that_is_over_is_made_again_for_the_first_host(tmp_path: Path) -> None:
    file = tmp_path / "host-token"
    with serving(tmp_path / "data") as (_, core):
        core.database.write_now(hosts.offer, file)
        first = file.read_text()
        core.database.write_now(lambda conn, now: hosts.offer(conn, now + 8 * 86400, file))
        assert file.read_text() != first
        with pytest.raises(DirectoryUnusable, match="host_token_file"):
            core.database.write_now(hosts.offer, tmp_path / "gone" / "host-token")


@attempt("client", "a key bound to a runner enrols another one", "a key lets no other runner in", "403")
def test_a_runners_key_enrols_nobody(here: Seat) -> None:
    mine = enrolled(here, "r-inviter")
    with here.api.client(mine) as client:
        error(client.post(f"{FLEET}/runners/r-invited/enrol", json={"hash": sha("invited")}), 403, "forbidden")


@attempt("client", "a key made for one host is used by a second one", "it is bound to the first", "403")
def test_a_made_key_is_its_first_runners(here: Seat) -> None:
    body = {"name": "by-hand", "role": "runner"}
    key = ok(here.api.admin.post("/api/v1/keys", json=body))["key"]
    with here.api.client(key) as client:
        ok(client.post(f"{FLEET}/runners/r-first/heartbeat", json=BEAT))
        error(client.post(f"{FLEET}/runners/r-second/heartbeat", json=BEAT), 403, "forbidden")
        ok(client.post(f"{FLEET}/runners/r-first/heartbeat", json=BEAT))
    other = ok(here.api.admin.post("/api/v1/keys", json={"name": "by-hand-2", "role": "runner"}))["key"]
    with here.api.client(other) as client:
        error(client.post(f"{FLEET}/runners/r-first/heartbeat", json=BEAT), 403, "forbidden")


@attempt("client", "a host's token a second time, late, or guessed", "used once, short-lived, its hash kept", "401")
def test_a_token_works_once_and_not_for_long(here: Seat) -> None:
    made = token(here)
    with here.api.client(made) as client:
        ok(client.post(f"{FLEET}/runners/r-once/enrol", json={"hash": sha("once")}))
        error(client.post(f"{FLEET}/runners/r-twice/enrol", json={"hash": sha("twice")}), 401, "bad_token")
        # it opens nothing but this
        error(client.get("/api/v1/runs"), 401, "unauthenticated")
        error(client.post(f"{FLEET}/runners/r-once/claim", json=CLAIM), 401, "unauthenticated")
    brief = token(here, expires_in=0.001)
    with here.api.client(brief) as client:
        error(client.post(f"{FLEET}/runners/r-late/enrol", json={"hash": sha("late")}), 401, "bad_token")
    with here.api.client("smvh_" + "a" * 43) as client:
        error(client.post(f"{FLEET}/runners/r-guess/enrol", json={"hash": sha("guess")}), 401, "bad_token")
    rows = here.core.database.read_now(
        lambda conn, now: str(conn.exec_driver_sql("SELECT * FROM host_tokens").all())
    )
    assert made not in rows


@attempt("client", "a host's token takes over a runner that is there", "only an id that is free", "409")
def test_a_token_takes_nobody_over(here: Seat) -> None:
    # one that has called with a shared key until now
    here.core.database.write_now(lambda conn, now: runners.heartbeat(conn, now, "r-alive", Heartbeat(**BEAT)))
    enrolled(here, "r-has-one")
    for runner, code in (("r-alive", "runner_alive"), ("r-has-one", "runner_enrolled")):
        with here.api.client(token(here)) as client:
            error(client.post(f"{FLEET}/runners/{runner}/enrol", json={"hash": sha(runner)}), 409, code)


@attempt("client", "a revoked host goes on claiming, or enrols again by itself", "its key ends it", "401")
def test_a_revoked_host_has_nothing_left(here: Seat) -> None:
    drop(here)
    key = enrolled(here, "r-bad")
    taken = held(here, key, "r-bad")
    with here.api.client(key) as client, ThreadPoolExecutor() as pool:
        poll = pool.submit(client.post, f"{FLEET}/runners/r-bad/claim", json={**CLAIM, "timeout": 50})
        eventually(lambda: not poll.running() or here.alive(), "the poll to be held")
        ok(here.api.admin.delete("/api/v1/keys/host:r-bad"))
        assert poll.result(20).status_code in (401, 403)
        error(client.post(f"{FLEET}/runners/r-bad/heartbeat", json=BEAT), 401, "unauthenticated")
        error(client.post(f"{FLEET}/runners/r-bad/enrol", json={"hash": sha("again")}), 401, "unauthenticated")
    # what it had is nobody's: nothing more is written for it
    late = here.api.attempt(taken, "finish", outcome="completed", result=1)
    error(late, 409, "stale_attempt")
    (host,) = [h for h in ok(here.api.admin.get("/api/v1/hosts"))["items"] if h["runner"] == "r-bad"]
    assert host["revoked_at"]
    # an operator lets it in again
    enrolled(here, "r-bad", "2")


def test_a_drained_host_gets_nothing_new(here: Seat) -> None:
    drop(here)
    key = enrolled(here, "r-tired")
    with here.api.client(key) as client:
        ok(client.post(f"{FLEET}/runners/r-tired/heartbeat", json=BEAT))
        assert ok(here.api.admin.post("/api/v1/hosts/r-tired/drain"))["drained_at"]
        here.api.trigger("minimine/greet")
        assert ok(client.post(f"{FLEET}/runners/r-tired/claim", json={**CLAIM, "builds": 1})) == {
            "assignments": [],
            "builds": [],
        }
        with ThreadPoolExecutor() as pool:
            poll = pool.submit(client.post, f"{FLEET}/runners/r-tired/claim", json={**CLAIM, "timeout": 50})
            assert ok(here.api.admin.delete("/api/v1/hosts/r-tired/drain"))["drained_at"] is None
            assert len(ok(poll.result(30))["assignments"]) == 1
    error(here.api.admin.post("/api/v1/hosts/nobody/drain"), 404, "not_found")


@attempt(
    "client", "a project's admin makes a host's token, lists hosts, drains one", "hosts are of every project", "403"
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/token"), ("GET", ""), ("POST", "/r1/drain"), ("DELETE", "/r1/drain")]
)
def test_hosts_are_not_a_projects(here: Seat, method: str, path: str) -> None:
    for role in ("admin", "trigger", "read"):
        with here.api.client(here.keys[role]) as client:
            error(client.request(method, f"/api/v1/hosts{path}"), 403, "forbidden")


# ---------------------------------------------------------------- the runner's side


def settings(here: Seat, state: Path, **given: Any) -> RunnerSettings:
    state.mkdir(exist_ok=True)
    return RunnerSettings(coordinator_url=here.api.url, sidecar_socket=state / "s", state=state, **given)


def joined(here: Seat, made: RunnerSettings, runner: str) -> None:
    async def join() -> None:
        client = CoordinatorClient(made.coordinator_url, made.bearer() or "", runner)
        try:
            await enrol(client, made, pause=0.01)
            await client.adopt()
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(join(), 30))


def test_a_runner_enrols_with_a_token_and_keeps_its_key(here: Seat, tmp_path: Path) -> None:
    state = tmp_path / "state"
    joined(here, settings(here, state, token=token(here)), "r-mine")
    own = state / "runner.key"
    assert own.stat().st_mode & 0o777 == 0o600
    with here.api.client(own.read_text().strip()) as client:
        ok(client.post(f"{FLEET}/runners/r-mine/heartbeat", json=BEAT))
    # started again, with the token that is used, or with nothing
    joined(here, settings(here, state, token="smvh_used"), "r-mine")
    joined(here, settings(here, state), "r-mine")


def test_a_runner_whose_answer_was_lost_goes_on_with_the_same_key(here: Seat, tmp_path: Path) -> None:
    state = tmp_path / "state"
    made = settings(here, state, token=token(here))
    joined(here, made, "r-lost")
    (state / "runner.key").rename(state / "runner.key.new")
    joined(here, made, "r-lost")


def test_a_runner_with_a_bad_token_says_so(here: Seat, tmp_path: Path) -> None:
    with pytest.raises(NotEnrolled, match="samovar hosts token"):
        joined(here, settings(here, tmp_path / "state", token="smvh_bad"), "r-refused")
    with pytest.raises(ValueError, match="samovar hosts token"):
        settings(here, tmp_path / "none")


# ---------------------------------------------------------------- addresses


def listener(tmp_path: Path, **given: Any) -> Settings:
    return Settings(data=tmp_path, **given)


@attempt("client", "listening beyond loopback without TLS", "a certificate, or a proxy that is named", "refused")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "::ffff:0.0.0.0"])
def test_beyond_loopback_takes_tls_or_a_proxy(tmp_path: Path, host: str) -> None:
    with pytest.raises(UnsafeAddress, match=r"--tls-cert.*--behind-proxy.*127\.0\.0\.1"):
        listening.check(listener(tmp_path, host=host))
    listening.check(listener(tmp_path, host=host, behind_proxy=True))
    listening.check(listener(tmp_path, host=host, trusted_proxies="10.0.0.1"))
    with pytest.raises(CliError, match=r"--tls-cert.*--behind-proxy"):
        check_address(host, None, None, False)
    check_address(host, None, None, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_nothing(tmp_path: Path, host: str) -> None:
    listening.check(listener(tmp_path, host=host))
    check_address(host, None, None, False)


def test_the_process_refuses_by_itself(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "coordinator",
        "--host",
        "0.0.0.0",
        "--data",
        str(tmp_path),
        "--admin-key",
        "k" * 20,
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "--behind-proxy" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_tls_is_spoken_with_a_plain_port_for_this_machine(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=localhost"
    subprocess.run([*make.split(), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    with pytest.raises(UnsafeAddress, match="tls_key"):
        listening.check(listener(tmp_path, tls_cert=cert))
    with pytest.raises(UnsafeAddress, match="private key"):
        listening.check(listener(tmp_path, tls_cert=cert, tls_key=cert))
    options = {"host": "0.0.0.0", "port": "0", "local-port": "0", "data": str(tmp_path / "data")}
    options |= {"tls-cert": str(cert), "tls-key": str(key), "admin-key": "k" * 20}
    command = [sys.executable, "-m", "coordinator", *(part for n, v in options.items() for part in (f"--{n}", v))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            urls: dict[str, str] = {}
            for line in process.stdout:
                for word in line.replace('"', " ").replace("=", " ").split():
                    if word.startswith(("https://", "http://")):
                        urls[word.partition(":")[0]] = word
                if len(urls) == 2:
                    break
            port = urls["https"].rpartition(":")[2].strip(",}")
            assert httpx.get(
                f"https://localhost:{port}/healthz", verify=ssl.create_default_context(cafile=str(cert))
            ).is_success
            assert httpx.get(f"{urls['http'].strip(',}')}/healthz").is_success
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"http://localhost:{port}/healthz")
        finally:
            process.terminate()
            assert process.wait(30) in (0, -15)
