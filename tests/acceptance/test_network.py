"""What tasks reach: real servers on loopback, people's usual clients, by a list of hosts and by the proxy."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.conformance.databases import cluster, postgres_binaries
from tests.stack import PROJECTS, Stack, stack

#: A public address, to which nothing is ever sent: the proxy of the host leads elsewhere.
PUBLIC = "93.184.216.34"
MIB = 1024**2


@dataclass
class World:
    samovar: Stack
    web: servers.Web
    mailbox: servers.Mailbox
    mail_port: int

    def result(self, task: str, **payload: Any) -> Any:
        run = self.samovar.finished(task, **payload)
        assert run["status"] == "completed", run["error"]
        return run["result"]

    def failed(self, task: str, **payload: Any) -> str:
        run = self.samovar.finished(task, **payload)
        assert run["status"] == "failed", run["result"]
        return str(run["error"]["message"])

    def log_of(self, task: str, **payload: Any) -> list[str]:
        """The lines of Samovar's own in the log of a run, whatever becomes of it."""
        run = self.samovar.finished(task, **payload)
        return [line["message"] for line in self.samovar.cli("runs", "logs", run["id"])]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    binaries = postgres_binaries()
    assert binaries is not None
    with ExitStack() as held:
        directory = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="smv-reach-")))
        names = ["api.internal", "a.wild.internal", "public.example"]
        certificates = servers.certificates(directory, names)
        web = held.enter_context(servers.web(certificates))
        database = held.enter_context(cluster(binaries)).rpartition(":")[2].partition("/")[0]
        cache = held.enter_context(servers.redis(directory))
        mail, mailbox = held.enter_context(servers.smtp())
        hosts = directory / "hosts"
        private = "db.internal cache.internal mail.internal closed.internal"
        hosts.write_text(f"127.0.0.1 {private} {' '.join(names[:2])}\n{PUBLIC} public.example hidden.example\n")
        listed = [
            f"api.internal:{web.secure}",
            f"db.internal:{database}",
            f"cache.internal:{cache}",
            f"mail.internal:{mail}",
        ]
        allowed = [*listed, f"a.wild.internal:{web.secure}"]
        samovar = held.enter_context(
            stack(f"private = {json.dumps(allowed)}\nconnections = 60", SAMOVAR_SIDECAR_HOSTS=str(hosts))
        )
        project = directory / "reach"
        shutil.copytree(PROJECTS / "reach", project)
        shutil.copy(certificates.ca, project / "ca.pem")
        environment = {
            # what the libraries look for where a company has an authority of its own
            "SSL_CERT_FILE": "ca.pem",
            "REQUESTS_CA_BUNDLE": "ca.pem",
            "API": f"https://api.internal:{web.secure}",
            "DATABASE_URL": f"postgresql://samovar@db.internal:{database}/postgres",
            "REDIS_URL": f"redis://cache.internal:{cache}/0",
            "MAIL_HOST": "mail.internal",
            "MAIL_PORT": str(mail),
            "LIST": " ".join([*listed, f"closed.internal:{web.secure}", f"*.wild.internal:{web.secure}"]),
        }
        lines = "\n".join(f'{name} = "{value}"' for name, value in environment.items())
        (project / "samovar.toml").write_text(
            '[project]\nname = "reach"\ntasks = ["tasks"]\nrequirements = "requirements.txt"\n'
            f'[defaults]\nmemory = "160m"\ntimeout = "1m"\n[env]\n{lines}\n'
        )
        samovar.deploy_path(project)
        # from now on the host has a proxy; what is built above reaches the package index as this machine does
        samovar.stop()
        proxy = f"http://127.0.0.1:{web.proxy.port}"
        samovar.environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1,.internal"}
        samovar.environment |= {name.lower(): samovar.environment[name] for name in ("HTTP_PROXY", "HTTPS_PROXY")}
        samovar.environment["no_proxy"] = samovar.environment["NO_PROXY"]
        samovar.up()
        # without it, something would be sent to a public address
        assert f"HTTPS_PROXY={proxy}" in Path(f"/proc/{samovar.pids()['sidecar']}/environ").read_text().split("\0")
        yield World(samovar, web, mailbox, mail)


CLIENTS = ["requests", "httpx", "httpx-async", "http2", "aiohttp", "urllib", "websockets"]


def check(client: str, found: dict[str, Any], host: str) -> None:
    if client == "websockets":
        assert found == {"said": "over a socket"}
        return
    assert (found["path"], found["scheme"], found["size"]) == ("/two", "https", MIB)
    assert found["version"] == ("2" if client == "http2" else "1.1")
    if client != "http2":
        assert found["host"] == host


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_reaches_a_host_of_the_list(world: World, client: str) -> None:
    check(client, world.result("listed", client=client), f"api.internal:{world.web.secure}")


@pytest.mark.parametrize("client", CLIENTS)
def test_an_http_client_reaches_what_is_public(world: World, client: str) -> None:
    before = len(world.web.proxy.asked)
    check(client, world.result("public", client=client), "public.example")
    # as the sidecar pinned it, by the proxy of the host
    assert all(line.startswith("CONNECT ") and line.endswith(":443") for line in world.web.proxy.asked[before:])
    assert len(world.web.proxy.asked) > before


@pytest.mark.parametrize("client", ["requests", "httpx", "aiohttp", "urllib"])
def test_plain_http_goes_by_the_proxy_too(world: World, client: str) -> None:
    found = world.result("public", client=client, url="http://public.example")
    assert (found["scheme"], found["host"], found["size"]) == ("http", "public.example", MIB)


def test_a_database(world: World) -> None:
    assert world.result("database") == 10 * MIB


def test_redis(world: World) -> None:
    assert world.result("cache")[0].isdigit()


def test_mail(world: World) -> None:
    world.result("mail", text="all is well")
    recipients, text = world.mailbox.mail[-1]
    assert recipients == ["people@example.com"]
    assert "all is well" in text


def test_a_name_below_a_domain(world: World) -> None:
    found = world.result("below", name=f"a.wild.internal:{world.web.secure}")
    assert found["host"] == f"a.wild.internal:{world.web.secure}"


def test_much_comes_through(world: World) -> None:
    assert world.result("download", size=64 * MIB) == 64 * MIB


def test_a_refusal_says_why_and_what_to_write(world: World) -> None:
    status, text, headers = world.result("fetched", url="http://api.internal/")
    assert status == 403
    assert "X-Samovar-Refused" in headers
    assert "network" in text


def test_what_is_reached_and_refused_is_in_the_log(world: World) -> None:
    lines = world.log_of("public", client="requests")
    assert any("public.example:443" in line and "sent" in line for line in lines), lines
    lines = world.log_of("fetched", url="http://api.internal/")
    assert any("api.internal:80" in line for line in lines), lines


def test_a_host_of_the_list_that_the_policy_does_not_allow_is_reset(world: World) -> None:
    run = world.samovar.finished("by-socket-listed", host="closed.internal", port=world.web.secure)
    # the connection is made to process 1; what comes then is an error
    assert run["error"]["type"] == "ConnectionResetError"
    lines = [line["message"] for line in world.samovar.cli("runs", "logs", run["id"])]
    assert any("closed.internal" in line and "private" in line for line in lines), lines


@pytest.mark.parametrize(
    ("task", "host", "said"),
    [
        ("by-socket", "other.example", 'network=["other.example:8443"]'),
        ("by-socket-listed", "other.example", 'network=[..., "other.example:8443"]'),
        ("by-socket-listed", "api.internal", 'network=[..., "api.internal:8443"]'),
        ("by-socket-none", "other.example", "this task has no network"),
        ("by-socket-none", PUBLIC, "this task has no network"),
    ],
)
def test_a_connection_past_the_proxy_is_told_what_to_write(world: World, task: str, host: str, said: str) -> None:
    assert said in world.failed(task, host=host, port=8443)


def test_aiohttp_has_to_be_told_of_the_proxy_and_says_so(world: World) -> None:
    said = world.failed("aiohttp-as-it-is", url="https://public.example/")
    assert "trust_env=True" in said
    assert '"public.example:443"' in said


@pytest.mark.parametrize("client", ["requests", "httpx", "aiohttp", "urllib", "websockets"])
def test_a_client_that_the_proxy_refuses_is_led_to_the_log(world: World, client: str) -> None:
    run = world.samovar.finished("public", client=client, url="https://api.internal")
    assert "the run's log says why" in run["error"]["message"]
    lines = [line["message"] for line in world.samovar.cli("runs", "logs", run["id"])]
    assert any("api.internal:443" in line for line in lines), lines


def test_without_a_network_there_is_no_trace_of_one(world: World) -> None:
    assert world.result("variables") == []


def test_warm_reuse_keeps_nothing_open(world: World) -> None:
    first = world.result("open-then-end")
    assert first["greeting"] == "220 "
    assert first["connections"] >= 1
    again = world.samovar.finished("connections")
    assert again["status"] == "completed"
    assert again["timings"]["start"] in ("warm", "waited")
    assert again["result"] == []


def test_the_connections_of_a_run_are_counted(world: World) -> None:
    assert 50 <= world.result("many", count=70) <= 60
