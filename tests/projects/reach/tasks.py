"""Tasks that reach the servers of tests/servers.py, by a list of hosts and by the proxy."""

from __future__ import annotations

import os
import socket
import urllib.request

import clients
from samovar import task

LIST = os.environ["LIST"].split()


@task(network=LIST)
def listed(client: str) -> dict:
    return clients.HTTP[client](os.environ["API"])


@task(network=LIST)
def database() -> int:
    return clients.use_psycopg()


@task(network=LIST)
def cache() -> str:
    return clients.use_redis()


@task(network=LIST)
def mail(text: str) -> None:
    clients.use_smtplib(text)


@task(network=LIST)
def below(name: str) -> dict:
    """A name that only a wildcard covers."""
    return clients.use_requests(f"https://{name}")


@task
def public(client: str, url: str = "https://public.example") -> dict:
    return clients.HTTP[client](url)


@task
def fetched(url: str) -> list:
    """The status, the reason and the headers that a client is told."""
    import requests

    answer = requests.get(url, timeout=20)
    return [answer.status_code, answer.text, dict(answer.headers)]


@task
def by_socket(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=20)


@task(network=LIST)
def by_socket_listed(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=20).recv(1)


@task(network="none")
def by_socket_none(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=20)


@task(network="none")
def variables() -> list[str]:
    return sorted(name for name in os.environ if "proxy" in name.lower() or "SAMOVAR" in name)


@task
def aiohttp_as_it_is(url: str) -> None:
    import asyncio

    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            await session.get(url)

    asyncio.run(main())


@task(network=LIST)
def open_then_end() -> dict:
    """Leaves a connection open, and says which container this is."""
    global held
    held = socket.create_connection((os.environ["MAIL_HOST"], int(os.environ["MAIL_PORT"])), timeout=20)
    return {"greeting": held.recv(4).decode(), "connections": len(established())}


@task(network=LIST)
def connections() -> list:
    return established()


def established() -> list:
    """Connections of this network namespace, by /proc/net/tcp."""
    with open("/proc/net/tcp") as file:
        return [line.split()[1:3] for line in file.readlines()[1:] if line.split()[3] == "01"]


@task(network=LIST)
def download(size: int) -> int:
    with urllib.request.urlopen(f"{os.environ['API']}/bytes/{size}", timeout=60) as answer:
        return len(answer.read())


@task(network=LIST)
def many(count: int) -> int:
    """How many connections to the mail server could be open at once."""
    found = []
    for _ in range(count):
        try:  # who is one too many is reset, perhaps before connect returns
            one = socket.create_connection((os.environ["MAIL_HOST"], int(os.environ["MAIL_PORT"])), timeout=20)
            if one.recv(4) == b"220 ":
                found.append(one)
        except ConnectionResetError:
            pass
    return len(found)
